"""Noise that flows to a chunk: in several Euler steps, or in one pass that was taught where they end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.structures.heads.head import Head, Stepped, Target, Trunk, committed, drawn, weighted
from export.teachers.reference import waves


class Flow(Stepped):
    """Flow matching: a velocity, integrated in `steps` steps."""

    def __init__(self, trunk: Trunk, width: int, steps: int) -> None:
        super().__init__()
        self.trunk, self.times = trunk, tuple(step / steps for step in range(steps))
        self.time = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width))

    def velocity(self, context: Tensor, mask: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """(B, H, A) at x, whose committed rows are clean, and time t (B,) or (1,)."""
        return self.trunk.back(self.trunk(x, mask, context, self.time(waves(t))))

    def step(self, context: Tensor, prefix: Tensor, mask: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        x = committed(noisy, prefix, mask)
        return committed(x + self.velocity(context, mask, x, t) / len(self.times), prefix, mask)

    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        """Early times are drawn more often: late ones can be read off x and say little of the observation."""
        noise, t = drawn(target, generator)
        t = t.square()
        x = committed(torch.lerp(noise, target.actions, t[:, None, None]), target.prefix, target.mask)
        error = self.velocity(context, target.mask, x, t) - (target.actions - noise)
        return weighted(error.square(), target)


class OnePass(Head):
    """One pass from noise to chunk. Taught by a teacher's pairs of noise and chunk; without them it learns the mean."""

    noise = True

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def answer(self, context: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        x = committed(noise, prefix, mask)
        return committed(x + self.trunk.back(self.trunk(x, mask, context)), prefix, mask)

    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        noise = target.noise
        if noise is None:
            noise = torch.randn(target.actions.shape, generator=generator).to(target.actions.device)
        chunk = self.answer(context, noise, target.prefix, target.mask)
        return weighted(nn.functional.smooth_l1_loss(chunk, target.actions, reduction="none", beta=0.1), target)
