"""What the action experts of SmolVLA and pi0 share: flow time, rows of a prefix, Euler steps.

Time runs from 1 (noise) to 0 (a clean action), as in LeRobot.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

CLEAN = 0.0  # the time of a row that holds a committed action


class TimeWaves(nn.Module):
    """Sine and cosine of times (B, H) at geometric periods: (B, H, width). In float64: periods are short."""

    def __init__(self, width: int, shortest: float, longest: float) -> None:
        super().__init__()
        # A Python list: the table must be there, and in float64, whatever the module was moved to.
        steps = width // 2
        ratio = longest / shortest
        self.rates = [2 * math.pi / (shortest * ratio ** (i / max(steps - 1, 1))) for i in range(steps)]

    def forward(self, times: Tensor) -> Tensor:
        angles = times.double()[..., None] * torch.tensor(self.rates, dtype=torch.float64, device=times.device)
        # Cosine as a shifted sine: ONNX Runtime on the robot has the float64 kernel of sine.
        return torch.cat([angles.sin(), (angles + math.pi / 2).sin()], dim=-1).to(times.dtype)


def euler_times(steps: int) -> tuple[float, ...]:
    """Where the velocity is taken: 1, 1 - 1/n, ..., 1/n."""
    return tuple(1.0 - step / steps for step in range(steps))


def euler_step(
    velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, steps: int, prefix: Tensor, mask: Tensor
) -> Tensor:
    """One step of `steps` from x (B, H, Z) at time t (B,); rows under the mask (B, H, 1) hold the prefix, clean."""
    x = torch.where(mask > 0, prefix, x)
    times = torch.where(mask[..., 0] > 0, CLEAN, t[:, None])  # (B, H)
    x = x - velocity(x, times) / steps
    return torch.where(mask > 0, prefix, x)


def integrate(
    velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int, prefix: Tensor, mask: Tensor
) -> Tensor:
    """The chunk (B, H, Z) that noise (B, H, Z) flows to."""
    x = noise
    for time in euler_times(steps):
        x = euler_step(velocity, x, torch.full((len(x),), time, dtype=x.dtype, device=x.device), steps, prefix, mask)
    return x


def pad_last(values: Tensor, size: int) -> Tensor:
    """Zeros behind the last dimension, up to `size`."""
    return nn.functional.pad(values, (0, size - values.shape[-1]))
