r"""A policy of your own behind edgevla's interface, and a recording to go with it.

    python -m export.distill.student --teacher examples/own_module.py:policy --data examples/own_module.py:recording \
        --work out/own --budget 2m

The policy looks at two cameras, hears no words, knows no prefix, and turns noise of 5 numbers a row into 3 actions in
four diffusion-like steps. Its weights are random here; yours come from your checkpoint (`load_state_dict`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from export.teachers.interface import Affine, CameraSpec, Inputs, TeacherPolicy, TeacherSpec

HORIZON, STATE, ACTIONS, NOISE = 12, ("shoulder", "elbow"), ("shoulder", "elbow", "gripper"), 5


class OwnPolicy(TeacherPolicy):
    """The adapter: `spec` says what goes in and out, `encode` looks once, `decode` answers a chunk."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.look = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(1), nn.Linear(3 * 4 * 6, 24), nn.Tanh())
        self.body = nn.Linear(len(STATE), 24)
        self.clean = nn.Sequential(
            nn.Linear(HORIZON * NOISE + 3 * 24 + 1, 64), nn.Tanh(), nn.Linear(64, HORIZON * NOISE)
        )
        self.spec = TeacherSpec(
            name="own-policy",
            cameras=(CameraSpec("front", 32, 48), CameraSpec("wrist", 32, 48, fit="stretch")),
            state=STATE,
            actions=ACTIONS,
            horizon=HORIZON,
            d_max=0,
            max_tokens=0,
            noise=NOISE,
            state_stats=Affine(np.zeros(2, np.float32), np.full(2, 0.5, np.float32)),
            action_stats=Affine(np.zeros(3, np.float32), np.full(3, 0.25, np.float32)),
        )
        weights = b"".join(p.detach().numpy().tobytes() for p in self.parameters())
        self.sha256 = hashlib.sha256(weights).hexdigest()

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        pictures = inputs["image"].permute(0, 1, 4, 2, 3)  # (B, 2, 3, h, w)
        seen = [self.look(pictures[:, i]) for i in range(2)]
        return (torch.stack([*seen, self.body(inputs["state"])], dim=1),)  # (B, 3, 24)

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        x, scene = noise, context[0].flatten(1)
        for level in (1.0, 0.75, 0.5, 0.25):
            known = torch.cat([x.flatten(1), scene, torch.full_like(scene[:, :1], level)], dim=1)
            x = (1 - level) * x + level * self.clean(known).view_as(x)
        return x[..., : len(ACTIONS)]

    def features(self, context: tuple[Tensor, ...]) -> Tensor:
        return context[0]


def policy() -> OwnPolicy:
    """For `--teacher examples/own_module.py:policy`."""
    return OwnPolicy()


@dataclass(frozen=True)
class Recording:
    """Six episodes of 40 ticks made up on the spot: a dot that the arm follows, seen by two cameras of two sizes."""

    episodes: int = 6
    ticks: int = 40
    sha256: str = "0" * 64
    period_s: float = 0.05
    fps: float = 20.0
    cameras: tuple[SimpleNamespace, ...] = (
        SimpleNamespace(name="wrist", height=24, width=24),
        SimpleNamespace(name="front", height=32, width=48),
    )
    state_names: tuple[str, ...] = STATE
    action_names: tuple[str, ...] = ACTIONS
    wordings: tuple[tuple[str, ...], ...] = (("follow the dot",),)

    def __len__(self) -> int:
        return self.episodes * self.ticks

    @property
    def state(self) -> np.ndarray:
        phase = np.arange(len(self))[:, None] * np.array([0.11, 0.07]) + self.start[:, None]
        return np.sin(phase).astype(np.float32)

    @property
    def action(self) -> np.ndarray:
        closed = (np.arange(len(self)) % self.ticks > self.ticks // 2).astype(np.float32)
        return np.column_stack([np.roll(self.state, -1, axis=0), closed]).astype(np.float32)

    executed = action

    @property
    def start(self) -> np.ndarray:
        return np.arange(len(self)) // self.ticks * self.ticks

    @property
    def end(self) -> np.ndarray:
        return self.start + self.ticks

    @property
    def task_index(self) -> np.ndarray:
        return np.zeros(len(self), np.int64)

    def instruction(self, tick: int) -> str:
        return self.wordings[0][0]

    def image(self, ticks: np.ndarray, camera: str) -> np.ndarray:
        height, width = (32, 48) if camera == "front" else (24, 24)
        shown = np.full((len(ticks), height, width, 3), 40, np.uint8)
        where = ((self.state[ticks] + 1) / 2 * [height - 1, width - 1]).astype(int)
        for picture, (row, column) in zip(shown, where, strict=True):
            picture[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = 220
        return shown


def recording() -> Recording:
    """For `--data examples/own_module.py:recording`."""
    return Recording()


def long_recording() -> Recording:
    """Enough held-out frames for `--search`."""
    return Recording(episodes=12, ticks=160, sha256="1" * 64)
