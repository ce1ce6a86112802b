"""Diffusion: the clean chunk is guessed from a noisy one, and noise is taken off in steps without new noise (DDIM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from export.structures.heads.head import Stepped, Target, Trunk, committed, drawn, weighted
from export.teachers.reference import waves


class Diffusion(Stepped):
    """A cosine schedule: at time t a chunk is sin(pi t / 2) of itself and cos(pi t / 2) of noise."""

    def __init__(self, trunk: Trunk, width: int, steps: int) -> None:
        super().__init__()
        self.trunk, self.times = trunk, tuple(step / steps for step in range(steps))
        self.time = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width))

    def clean(self, context: Tensor, mask: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The guess (B, H, A)."""
        return self.trunk.back(self.trunk(x, mask, context, self.time(waves(t))))

    def step(self, context: Tensor, prefix: Tensor, mask: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        x = committed(noisy, prefix, mask)
        guess = self.clean(context, mask, x, t)
        now, then = t * (math.pi / 2), (t + 1 / len(self.times)) * (math.pi / 2)
        noise = (x - torch.sin(now) * guess) / torch.cos(now)
        return committed(torch.sin(then) * guess + torch.cos(then) * noise, prefix, mask)

    def loss(self, context: Tensor, target: Target, generator: torch.Generator) -> Tensor:
        noise, t = drawn(target, generator)
        angle = (t * (math.pi / 2))[:, None, None]
        x = committed(torch.sin(angle) * target.actions + torch.cos(angle) * noise, target.prefix, target.mask)
        return weighted((self.clean(context, target.mask, x, t) - target.actions).square(), target)
