r"""A checkpoint of torch.save and its config behind edgevla's interface: a policy head that remembers a window.

    python examples/own_checkpoint.py             # writes out/robovlms: yours comes from your training
    edgevla compress examples/own_checkpoint.py:policy --data examples/own_module.py:recording --embodiment robot.toml

Each observation is encoded alone; an LSTM fuses the window. Its history is the window that the bundle keeps, never a
list inside the module: a graph has no memory.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.teachers.interface import Affine, CameraSpec, Inputs, TeacherPolicy, TeacherSpec
from export.teachers.lerobot.weights import sha256_of
from export.teachers.torch_file import load_state_dict

FOLDER = Path("out/robovlms")
CONFIG, WEIGHTS = FOLDER / "run-project.json", FOLDER / "last.pt"
NAMES = ("shoulder", "elbow", "gripper")


class Net(nn.Module):
    """The module as it was trained: names of its layers are those in the checkpoint."""

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        self.vision = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.Flatten(1), nn.Linear(8 * 4 * 6, width))
        self.body = nn.Linear(2, width)
        self.fuse = nn.LSTM(width, width, batch_first=True)
        self.arm, self.gripper = nn.Linear(width, 2 * rows), nn.Linear(width, rows)


class PolicyHead(TeacherPolicy):
    """The adapter."""

    def __init__(self, config: Path = CONFIG, weights: Path = WEIGHTS) -> None:
        super().__init__()
        told = json.loads(config.read_text())
        self.window, rows = told["window_size"], told["fwd_pred_next_n"]
        self.net = Net(told["act_head"]["hidden_size"], rows)
        self.net.load_state_dict(load_state_dict(weights))
        low, high = told["norm_min"], told["norm_max"]  # of the arm; the gripper is 0 or 1
        middle, half = (high + low) / 2, (high - low) / 2
        self.spec = TeacherSpec(
            name="policy-head",
            cameras=(CameraSpec("front", 32, 48),),
            state=NAMES[:2],
            actions=NAMES,
            horizon=rows,
            d_max=0,
            max_tokens=0,
            noise=0,
            state_stats=Affine(np.zeros(2, np.float32), np.ones(2, np.float32)),
            action_stats=Affine(np.float32([middle, middle, 0.5]), np.float32([half, half, 0.5])),
            observations=self.window,
        )
        self.sha256 = sha256_of([config, weights])

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        pictures = inputs["image"].permute(0, 1, 4, 2, 3)  # (B, T, 3, h, w)
        seen = self.net.vision(pictures.flatten(0, 1)).unflatten(0, (-1, self.window))
        fused, _ = self.net.fuse(seen + self.net.body(inputs["state"].unflatten(1, (self.window, 2))))
        return (fused,)  # (B, T, W)

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        newest = context[0][:, -1]
        arm = torch.tanh(self.net.arm(newest)).unflatten(1, (-1, 2))
        gripper = torch.sigmoid(self.net.gripper(newest)).unsqueeze(-1) * 2 - 1
        return torch.cat([arm, gripper], dim=-1)

    def features(self, context: tuple[Tensor, ...]) -> Tensor:
        return context[0]


def policy() -> PolicyHead:
    """For `edgevla compress examples/own_checkpoint.py:policy`."""
    return PolicyHead()


def write_random(folder: Path = FOLDER) -> None:
    """A checkpoint as a training on several GPUs leaves it, with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    told = {"window_size": 4, "fwd_pred_next_n": 10, "norm_min": -1.0, "norm_max": 1.0, "act_head": {"hidden_size": 32}}
    (folder / CONFIG.name).write_text(json.dumps(told, indent=1))
    state = {f"module.{name}": tensor for name, tensor in Net(32, 10).state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 3}, folder / WEIGHTS.name)


if __name__ == "__main__":
    write_random()
