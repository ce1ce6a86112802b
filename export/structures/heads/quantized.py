"""A vector-quantized head: some rows of a chunk are one entry of a learned book, and the context says which.

Book, encoder and decoder are trained together with the choice: rows are rebuilt from their nearest entry, entries and
codes are drawn to each other, and the choice is classified. An entry that nobody takes is put where rows are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.structures.heads.head import Head, Target, Trunk, committed, weighted
from export.students.layers import mlp

COMMITMENT = 0.25  # how strongly codes are drawn to entries, relative to entries to codes


class Quantized(Head):
    """`ticks` rows are one token; its code has `size` numbers; the book has `codes` entries."""

    taken: Tensor

    def __init__(self, trunk: Trunk, width: int, ticks: int, actions: int, codes: int, size: int = 16) -> None:
        super().__init__()
        self.trunk, self.ticks, self.actions = trunk, ticks, actions
        self.encoder = nn.Sequential(nn.Linear(ticks * actions, 64), nn.GELU(), nn.Linear(64, size))
        self.decoder = nn.Sequential(nn.Linear(size, 64), nn.GELU(), nn.Linear(64, ticks * actions))
        self.book = nn.Parameter(torch.randn(codes, size))
        self.choice = nn.Sequential(nn.LayerNorm(width), mlp(width, 2, nn.GELU), nn.Linear(width, codes))
        self.register_buffer("taken", torch.ones(codes), persistent=False)  # how often, lately

    def answer(self, context: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        scores = self.choice(self.trunk(prefix * mask, mask, context))
        return committed(self._rows(self.book[scores.argmax(-1)]), prefix, mask)

    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        codes = self.encoder(target.actions.unflatten(1, (-1, self.ticks)).flatten(2))  # (B, tokens, size)
        nearest = torch.cdist(codes.detach().flatten(0, 1), self.book.detach()).argmin(-1).unflatten(0, codes.shape[:2])
        entries = self.book[nearest]
        rebuilt = self._rows(codes + (entries - codes).detach())  # gradients pass the choice by
        drawn = (entries - codes.detach()).square().mean() + COMMITMENT * (codes - entries.detach()).square().mean()
        scores = self.choice(self.trunk(target.prefix, target.mask, context))
        lost = nn.functional.cross_entropy(scores.flatten(0, 1), nearest.flatten(), reduction="none")
        per_row = lost.unflatten(0, nearest.shape).repeat_interleave(self.ticks, 1)[..., None]
        if self.training:
            self._revive(nearest, codes, generator)
        return drawn + weighted((rebuilt - target.actions).square(), target) + weighted(per_row, target)

    def _rows(self, entries: Tensor) -> Tensor:
        """(B, tokens, size) to (B, H, A)."""
        return self.decoder(entries).unflatten(2, (self.ticks, self.actions)).flatten(1, 2)

    @torch.no_grad()
    def _revive(self, nearest: Tensor, codes: Tensor, generator: torch.Generator) -> None:
        """Entries that were not taken for long start anew at codes of this batch."""
        count = torch.bincount(nearest.flatten(), minlength=len(self.book)).to(self.taken)
        self.taken.mul_(0.99).add_(count, alpha=0.01)
        idle = (self.taken < 0.01).nonzero()[:, 0]
        if len(idle):
            flat = codes.flatten(0, 1)
            picked = torch.randint(len(flat), (len(idle),), generator=generator).to(flat.device)
            self.book[idle] = flat[picked]
            self.taken[idle] = 1.0
