"""The reference teacher: a small vision-language-action model with a flow-matching action head.

Read it top to bottom: image, words and state become 38 observation tokens; the head turns noise into a chunk of H
actions in `flow_steps` Euler steps, with the already committed first d actions as a clean prefix (training-time
real-time chunking). Actions are in normalised units, see `stats`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from export.distill.rows import row_weights
from export.students.layers import ActionTokens, DecoderBlock, EncoderBlock, PatchStem, TextEncoder, blocks


@dataclass(frozen=True)
class TeacherConfig:
    """Sizes of the teacher. `horizon` and `d_max` in ticks."""

    vocabulary: int
    max_tokens: int = 16
    image_size: int = 96
    state: int = 4
    actions: int = 4
    horizon: int = 32
    d_max: int = 8
    ticks_per_token: int = 4
    width: int = 320
    heads: int = 5
    encoder_layers: int = 2
    head_layers: int = 3
    head_mlp_ratio: int = 3
    flow_steps: int = 10
    stem: str = "conv"  # conv | patch

    def to_dict(self) -> dict[str, int | str]:
        return asdict(self)


class ConvStem(nn.Module):
    """Image (B, 96, 96, 3) in [-1, 1] to 36 tokens (B, 36, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (3, 32, 64, 128)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for b in sizes[1:])
        self.mix = nn.Conv2d(128, 128, 3, 1, 1)
        self.out = nn.Conv2d(128, width, 3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2)
        for conv, norm in zip(self.down, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        x = x + torch.relu(self.mix(x))
        return self.out(x).flatten(2).transpose(1, 2)


class FlowTeacher(nn.Module):
    """Observation and noise in, action chunk out."""

    def __init__(self, config: TeacherConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = PatchStem(config.image_size, 16, width) if config.stem == "patch" else ConvStem(width)
        self.position = nn.Parameter(0.02 * torch.randn((config.image_size // 16) ** 2, width))
        self.text = TextEncoder(config.vocabulary, config.max_tokens, width)
        self.state = nn.Sequential(nn.Linear(config.state, width), nn.GELU(), nn.Linear(width, width))
        self.encoder = nn.ModuleList(
            EncoderBlock(width, config.heads, 4, nn.GELU) for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width))
        self.tokens = ActionTokens(config.horizon, config.actions, config.ticks_per_token, width)
        self.head = nn.ModuleList(
            DecoderBlock(width, config.heads, config.head_mlp_ratio, nn.GELU) for _ in range(config.head_layers)
        )

    def encode(self, image: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Observation tokens (B, 38, W) and the direct condition (B, 1, W) of words and state."""
        text, body = self.text(tokens), self.state(state)[:, None]
        x = torch.cat([self.stem(image) + self.position, text, body], dim=1)
        for block in self.encoder:
            x = block(x)
        return self.norm(x), text + body

    def keys_values(self, observation: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Cross-attention keys and values per head layer: once per observation, not per flow step."""
        return [block.cross_attention.keys_values(observation) for block in blocks(self.head)]

    def velocity(
        self, x: Tensor, t: Tensor, mask: Tensor, condition: Tensor, cache: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Flow velocity (B, H, A) at x (B, H, A), time t (B,); mask (B, H, 1) marks prefix rows, clean in x."""
        tokens = self.tokens(x, mask) + condition + self.time(waves(t))[:, None]
        for block, keys_values in zip(self.head, cache, strict=True):
            tokens = block(tokens, keys_values)
        return self.tokens.back(tokens)

    def integrate(self, observation: Tensor, condition: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """The chunk (B, H, A) that noise (B, H, A) flows to; rows under the mask equal the prefix."""
        cache, x = self.keys_values(observation), noise
        steps = self.config.flow_steps
        for step in range(steps):
            x = torch.where(mask > 0, prefix, x)
            t = torch.full((len(x),), step / steps, device=x.device)
            x = x + self.velocity(x, t, mask, condition, cache).float() / steps
        return torch.where(mask > 0, prefix, x)

    def forward(
        self, image: Tensor, tokens: Tensor, state: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor
    ) -> Tensor:
        return self.integrate(*self.encode(image, tokens, state), noise, prefix, mask)


def waves(t: Tensor) -> Tensor:
    """Sinusoidal features (B, 64) of flow time in [0, 1]."""
    frequencies = torch.exp(torch.linspace(0.0, math.log(100.0), 32, device=t.device))
    angles = t[:, None] * frequencies * math.pi
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FlowObjective(nn.Module):
    """Flow-matching loss; `repeats` (noise, time) draws share one encoding of each observation.

    Early flow times are drawn more often (density 1 / (2 sqrt(t))): near t = 1 the answer can be read off x and says
    little about the observation. Rows that a re-plan normally replaces before they act weigh less.

    Batch: image, tokens, state, actions (B, H, A), mask (B, H, 1) prefix rows, valid (B, H, 1).
    """

    def __init__(
        self, model: FlowTeacher, repeats: int, generator: torch.Generator, match: FlowTeacher | None = None
    ) -> None:
        super().__init__()
        self.model, self.repeats, self.generator = model, repeats, generator
        self._match = [match]  # in a list: not a part of what is trained
        self.register_buffer("row_weight", row_weights(model.config.horizon))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        model, repeats = self.model, self.repeats
        observation, condition = model.encode(batch["image"], batch["tokens"], batch["state"])
        cache = [
            (k.repeat_interleave(repeats, 0), v.repeat_interleave(repeats, 0))
            for k, v in model.keys_values(observation)
        ]
        actions, mask, valid = (batch[key].repeat_interleave(repeats, 0) for key in ("actions", "mask", "valid"))
        noise = torch.randn(actions.shape, generator=self.generator)
        t = torch.rand(len(actions), generator=self.generator).square()
        x = torch.where(mask > 0, actions, torch.lerp(noise, actions, t[:, None, None]))
        velocity = model.velocity(x, t, mask, condition.repeat_interleave(repeats, 0), cache).float()
        weight = valid * (1 - mask) * torch.as_tensor(self.row_weight)
        loss = (weight * (velocity - (actions - noise)).square()).sum() / (weight.sum() * actions.shape[-1])
        return loss + self._distance(observation, batch)

    def _distance(self, observation: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Mean squared distance of the observation tokens to those of the model to match, if there is one."""
        match = self._match[0]
        if match is None:
            return torch.zeros(())
        with torch.no_grad():
            wanted, _ = match.encode(batch["image"], batch["tokens"], batch["state"])
        return (observation.float() - wanted.float()).square().mean()
