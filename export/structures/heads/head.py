"""What a head is: from a context to a chunk, how it is trained, and what it needs at run time.

Shapes: B batch, M tokens of a context, F width, H rows of a chunk, A actions, Z numbers of noise (A, or none).
Rows under the mask (B, H, 1) are committed already: they equal the prefix (B, H, A) in every answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.students.layers import ActionTokens, DecoderBlock, blocks


@dataclass(frozen=True)
class Target:
    """What a chunk should be: actions (B, H, A), mask of committed rows (B, H, 1), weight of rows (B, H, 1).

    noise: (B, H, A) that a teacher started from to get there; None of demonstrations.
    """

    actions: Tensor
    mask: Tensor
    weight: Tensor
    noise: Tensor | None = None

    @property
    def prefix(self) -> Tensor:
        return self.actions * self.mask


class Head(nn.Module, ABC):
    """A head over contexts (B, M, F). With `times` it is a step that runs once for each (`edgevla.bundle.wiring`)."""

    noise = False  # whether an answer starts from noise
    times: tuple[float, ...] = ()

    @abstractmethod
    def answer(self, context: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """The chunk (B, H, A), all steps."""

    @abstractmethod
    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        """A number to minimise."""


class Stepped(Head):
    """A head that answers in steps from noise."""

    noise = True

    @abstractmethod
    def step(self, context: Tensor, prefix: Tensor, mask: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """(B, H, A) nearer to the answer. t: (1,), one of `times`."""

    def answer(self, context: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        x = noise
        for t in self.times:
            x = self.step(context, prefix, mask, x, torch.full((1,), t, dtype=x.dtype, device=x.device))
        return x


class Trunk(nn.Module):
    """Action tokens that look at the context: rows (B, H, A) and mask to (B, tokens, F).

    answers: whether tokens are made rows again by `back`; a head that makes something else of them leaves it out.
    """

    def __init__(
        self, horizon: int, actions: int, ticks: int, width: int, heads: int, layers: int, answers: bool
    ) -> None:
        super().__init__()
        self.tokens = ActionTokens(horizon, actions, ticks, width)
        if not answers:
            del self.tokens.norm, self.tokens.unembed
        self.condition = nn.Linear(width, width)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, 3, nn.GELU) for _ in range(layers))

    def forward(self, rows: Tensor, mask: Tensor, context: Tensor, time: Tensor | None = None) -> Tensor:
        x = self.tokens(rows, mask) + self.condition(context[:, -1:])  # the newest, directly
        x = x if time is None else x + time[:, None]
        for block in blocks(self.blocks):
            x = block(x, block.cross_attention.keys_values(context))
        return x

    def back(self, x: Tensor) -> Tensor:
        """(B, tokens, F) to rows (B, H, A)."""
        return self.tokens.back(x)


def drawn(target: Target, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise of the shape of the actions, and a number in [0, 1) for each chunk (B,): the same on every device."""
    noise = torch.randn(target.actions.shape, generator=generator)
    t = torch.rand(len(noise), generator=generator)
    return noise.to(target.actions.device), t.to(target.actions.device)


def weighted(error: Tensor, target: Target) -> Tensor:
    """Mean of an error per number (B, H, A) over the rows that count."""
    weight = target.weight * (1.0 - target.mask)
    return (error * weight).sum() / (weight.sum() * error.shape[-1]).clamp_min(1e-6)


def committed(chunk: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
    """The chunk with its committed rows."""
    return chunk * (1.0 - mask) + prefix * mask
