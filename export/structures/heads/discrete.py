"""Actions as one of some values each: all at once from the context, or one after the other by the language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.structures.heads.head import Head, Target, Trunk, committed, weighted


class Values(nn.Module):
    """`count` intervals of [-bound, bound]; a number stands for the middle of its own."""

    middles: Tensor

    def __init__(self, count: int, bound: float) -> None:
        super().__init__()
        self.count, self.bound = count, bound
        middles = (torch.arange(count) + 0.5) * (2 * bound / count) - bound
        self.register_buffer("middles", middles, persistent=False)

    def number(self, values: Tensor) -> Tensor:
        """int64, of values of any shape; beyond the bound means the last interval."""
        return ((values + self.bound) * (self.count / (2 * self.bound))).floor().clamp(0, self.count - 1).long()

    def value(self, logits: Tensor) -> Tensor:
        """The likeliest value, of logits (..., count)."""
        return self.middles[logits.argmax(-1)]


class Discrete(Head):
    """Parallel decoding: every number of the chunk is classified at once."""

    def __init__(self, trunk: Trunk, width: int, ticks: int, actions: int, values: Values) -> None:
        super().__init__()
        self.trunk, self.ticks, self.actions, self.values = trunk, ticks, actions, values
        self.logits = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, ticks * actions * values.count))

    def scores(self, context: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """(B, H, A, bins)."""
        hidden = self.logits(self.trunk(prefix * mask, mask, context))
        return hidden.unflatten(2, (self.ticks, self.actions, self.values.count)).flatten(1, 2)

    def answer(self, context: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        return committed(self.values.value(self.scores(context, prefix, mask)), prefix, mask)

    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        return weighted(surprise(self.scores(context, target.prefix, target.mask), target.actions, self.values), target)


def surprise(scores: Tensor, actions: Tensor, values: Values) -> Tensor:
    """Cross-entropy per number (B, H, A) of scores (B, H, A, bins)."""
    lost = nn.functional.cross_entropy(scores.flatten(0, -2), values.number(actions).flatten(), reduction="none")
    return lost.unflatten(0, actions.shape)
