"""A vision-language model that transformers does not carry, such as MoonDream or UForm, as the backbone of a policy.

    edgevla compress examples/own_backbone.py:teacher --data out/own-data --embodiment robot.toml --mode direct

The adapter is `MoonDreamLike`: where its pictures become tokens, where its words do, and its language layers. Those two
models come as code of their own repositories, not on a package index, so `Model` stands here in their place: a vision
encoder, a projection, a decoder with rotary places in half of each head, as MoonDream's. Put yours there instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.data.load import open_dataset
from export.structures.backbone import HALF, Backbone, causal
from export.structures.config import StructureConfig
from export.structures.lessons import spec_of
from export.structures.policy import StructurePolicy
from export.structures.teacher import StructureTeacher
from export.students.layers import EncoderBlock

DATA = Path("out/own-data")  # LeRobot dataset or demonstrations that it is trained on
PICTURE, WORDS = 32, ("push", "lift", "the", "red", "cube")


class MoonDreamLike(Backbone):
    """The whole adapter."""

    family = "moondream-like"
    pixels = HALF

    @property
    def vision(self) -> Any:
        return self.model.vision

    @property
    def language(self) -> Any:
        return self.model.text

    def tokens(self, pixels: Tensor) -> Tensor:
        return self.model.projection(self.model.vision(pixels))

    def think(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        return self.model.text(x, causal(present), positions)


class Vision(nn.Module):
    """Patches and one transformer layer."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.block = EncoderBlock(width, 2, 2, nn.GELU)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.block(self.patch(pixels).flatten(2).transpose(1, 2))


class Text(nn.Module):
    """Causal layers; places turn half of each head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = self.qkv(normed).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = turned(q, positions) @ turned(k, positions).transpose(-1, -2) * q.shape[-1] ** -0.5
        attended = (torch.softmax(scores + mask, dim=-1) @ v).transpose(1, 2).flatten(2)
        return x + self.out(attended) + self.mlp(normed)  # side by side, as in Phi


def turned(x: Tensor, positions: Tensor) -> Tensor:
    """(B, heads, S, D) with the first half of D turned by its place (B, S)."""
    part = x.shape[-1] // 4
    rates = 10_000.0 ** (-torch.arange(part) / part)
    angle = (positions[..., None] * rates)[:, None]
    a, b, rest = x[..., :part], x[..., part : 2 * part], x[..., 2 * part :]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin(), rest], dim=-1)


class Model(nn.Module):
    """Stands in for the model that you have."""

    def __init__(self, words: int, width: int = 32) -> None:
        super().__init__()
        self.vision, self.projection = Vision(width, 8), nn.Linear(width, width)
        self.words, self.text = nn.Embedding(words, width), Text(width, 2)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words


def teacher() -> StructureTeacher:
    """What `edgevla compress` asks for: weights are random here; load yours with `load_state_dict`."""
    torch.manual_seed(0)
    data = open_dataset(DATA, DATA, False)
    spec = spec_of(data, "own", (PICTURE, PICTURE), horizon=8, d_max=2, max_tokens=6, moments=4, stride=4)
    config = StructureConfig(
        "policy-head", "lstm", window=4, stride=4, pictures=len(spec.cameras), state=len(spec.state),
        actions=len(spec.actions), horizon=8, d_max=2, width=32,
    )  # fmt: skip
    policy = StructurePolicy(config, MoonDreamLike(Model(len(WORDS) + 1), (PICTURE, PICTURE)))
    return StructureTeacher(policy, spec, WORDS, sha256="0" * 64).eval()
