"""The chunk straight from the context: an MLP over all its tokens, as RoboVLMs' FCDecoder and the end of its LSTM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.structures.heads.head import Head, Target, committed, weighted


class Mlp(Head):
    """Two hidden layers; the prefix goes in beside the context."""

    def __init__(self, tokens: int, width: int, horizon: int, actions: int, d_max: int) -> None:
        super().__init__()
        self.d_max, self.horizon, self.actions = d_max, horizon, actions
        self.net = nn.Sequential(
            nn.Linear(tokens * width + d_max * (actions + 1), 3 * width), nn.GELU(),
            nn.Linear(3 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, horizon * actions),
        )  # fmt: skip

    def answer(self, context: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        flat = context.flatten(1)
        if self.d_max:
            rows = torch.cat([prefix * mask, mask], dim=-1)[:, : self.d_max]
            flat = torch.cat([flat, rows.flatten(1)], dim=1)
        chunk = self.net(flat).unflatten(1, (self.horizon, self.actions))
        return committed(chunk, prefix, mask)

    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        chunk = self.answer(context, target.prefix, target.prefix, target.mask)
        return weighted(nn.functional.smooth_l1_loss(chunk, target.actions, reduction="none", beta=0.1), target)
