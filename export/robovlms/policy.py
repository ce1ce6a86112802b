"""A policy as RoboVLMs built it, in the parts of our family: the same layers by the same names, nothing added.

Its sequence is: the first word, the pictures (hand camera first), the other words, the action tokens. Behind it an
LSTM, a GPT-2 or nothing, and two small networks: the pose, within +-1, and which way the gripper goes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from export.robovlms.gpt import Gpt
from export.robovlms.project import Project
from export.structures.backbone import Backbone
from export.structures.config import INTERLEAVED, ONE_STEP, POLICY_HEAD, StructureConfig
from export.structures.heads.head import Head, Target, committed, weighted
from export.structures.history import History, Newest, Recurrent
from export.structures.policy import StructurePolicy

ACTIONS = 7  # x, y, z, roll, pitch, yaw, gripper
_HEADS = {"LSTMDecoder": "lstm", "GPTDecoder": "gpt", "FCDecoder": "mlp"}  # what comes nearest
_HIDDEN = (1024, 512, 256)
_GRIPPER_WEIGHT = 0.01  # `arm_gripper_loss_ratio` of its configurations


class Perceptrons(nn.Module):
    """`mlp.0` to `mlp.6` of its checkpoints."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        sizes = (width, *_HIDDEN)
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.mlp = nn.Sequential(*layers, nn.Linear(_HIDDEN[-1], out))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.mlp(x)
        return found


class OriginalHead(Head):
    """Pose (H, 6) and gripper, 1 or -1 as its data has it: 1 is open in CALVIN. `before`: width into an FCDecoder."""

    def __init__(self, width: int, horizon: int, mu: float | None, before: int | None = None) -> None:
        super().__init__()
        self.horizon, self.mu = horizon, mu
        if before is not None:
            self.mlp = nn.Sequential(nn.Linear(before, before // 2), nn.ReLU(), nn.Linear(before // 2, width))
        self.actions, self.gripper = Perceptrons(width, horizon * (ACTIONS - 1)), Perceptrons(width, horizon)

    def said(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Pose (B, H, 6) within +-1, companded where the checkpoint was; logit of the gripper (B, H, 1)."""
        x = context.flatten(1)
        x = self.mlp(x) if hasattr(self, "mlp") else x
        pose = torch.tanh(self.actions(x)).unflatten(1, (self.horizon, ACTIONS - 1))
        return pose, self.gripper(x)[..., None]

    def answer(self, context: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        pose, gripper = self.said(context)
        if self.mu is not None:
            grown = torch.expm1(pose.abs() * torch.log1p(torch.tensor(self.mu))) / self.mu
            pose = torch.sign(pose) * grown
        return committed(torch.cat([pose, 2.0 * (gripper > 0).to(pose.dtype) - 1.0], dim=-1), prefix, mask)

    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        pose, gripper = self.said(context)
        wanted = target.actions[..., :-1].clamp(-1, 1)
        if self.mu is not None:
            wanted = torch.sign(wanted) * torch.log1p(self.mu * wanted.abs()) / torch.log1p(torch.tensor(self.mu))
        far = weighted(nn.functional.huber_loss(pose, wanted, reduction="none"), target)
        wanted_way = (target.actions[..., -1:] > 0).to(gripper.dtype)
        wrong = nn.functional.binary_cross_entropy_with_logits(gripper, wanted_way, reduction="none")
        return far + _GRIPPER_WEIGHT * weighted(wrong, target)


class OriginalPolicy(StructurePolicy):
    """The network of a project file over a backbone. No state, no prefix, no noise.

    closing: id of the token that ends a sentence. It stands behind the action tokens: where moments are interleaved,
    those after it look at it.
    """

    feels = False

    def __init__(self, project: Project, backbone: Backbone, stride: int, closing: int | None = None) -> None:
        nn.Module.__init__(self)
        self.closing = closing if project.structure == "interleaved continuous" else None
        width = backbone.width * project.latents
        self.config, self.backbone, self.resampler = config_of(project, stride), backbone, None
        self.register_buffer("camera", torch.zeros(self.config.pictures, 1, backbone.width), persistent=False)
        self.asking = nn.Parameter(torch.zeros(project.latents, backbone.width))
        self.history: History
        self.words = None
        if project.head == "LSTMDecoder":
            hidden = project.hidden * project.latents
            self.history = Recurrent(self._behind(), width, project.layers, hidden)
            self.head = OriginalHead(hidden, project.chunk, project.mu)
        elif project.head == "GPTDecoder":
            self.history = Gpt(self._behind(), width, project.hidden * project.latents)
            self.head = OriginalHead(self.history.out, project.chunk, project.mu)
        else:
            self.history = Newest(1, width)
            self.head = OriginalHead(project.hidden * project.latents, project.chunk, project.mu, before=width)

    def _behind(self) -> int:
        return self.config.window if self.config.structure == POLICY_HEAD else 1

    @property
    def asked(self) -> int:
        return self.config.latents + int(self.closing is not None)

    def queries(self, state: Tensor) -> Tensor:
        asking: Tensor = self.asking
        if self.closing is not None:
            asking = torch.cat([asking, self.backbone.hear(torch.tensor([[self.closing]]))[0]])
        return asking.expand(*state.shape[:2], -1, -1)

    def read(
        self, vision: Tensor, words: Tensor, there: Tensor, queries: Tensor, known: Tensor | None = None
    ) -> Tensor:
        hidden = self.backbone.read(vision, words, there, queries, known)[:, :, : self.config.latents]
        return hidden.flatten(2)


def config_of(project: Project, stride: int) -> StructureConfig:
    """The structure of a project: its window counts where moments are interleaved or an LSTM stands behind."""
    structures = {
        "interleaved continuous": INTERLEAVED, "policy head continuous": POLICY_HEAD, "one-step continuous": ONE_STEP
    }  # fmt: skip
    structure = structures[project.structure]
    return StructureConfig(
        structure=structure,
        head=_HEADS[project.head],
        window=1 if structure == ONE_STEP else project.window,
        stride=stride,
        pictures=2 if project.hand_camera else 1,
        state=ACTIONS,
        actions=ACTIONS,
        horizon=project.chunk,
        ticks_per_token=1,
        latents=project.latents,
        recurrent_layers=project.layers,
    )
