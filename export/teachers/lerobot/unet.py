"""The denoiser of Diffusion Policy: a one-dimensional U-Net over the rows of a chunk, steered by FiLM.

It halves the rows from one width to the next and doubles them on the way back; each block is told the time and the
observation as a scale and a shift per channel.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from export.teachers.lerobot.folder import PolicyFolder


class ConvBlock(nn.Sequential):
    """Convolution over the rows, group norm, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs), nn.Mish()
        )


class FilmBlock(nn.Module):
    """Two convolutions around a shortcut, scaled and shifted in between by the condition."""

    def __init__(self, folder: PolicyFolder, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        kernel, groups = folder.setting("kernel_size", 5), folder.setting("n_groups", 8)
        self.scaled = folder.setting("use_film_scale_modulation", True)
        self.conv1, self.conv2 = ConvBlock(inputs, outputs, kernel, groups), ConvBlock(outputs, outputs, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, outputs * (2 if self.scaled else 1)))
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, channels, rows), condition (B, C)."""
        y, film = self.conv1(x), self.film(condition)[..., None]
        if self.scaled:
            scale, shift = film.chunk(2, dim=1)
            y = scale * y + shift
        else:
            y = y + film
        moved: Tensor = self.conv2(y) + self.shortcut(x)
        return moved


class Stage(nn.Module):
    """Two blocks, then half or double the rows, or leave them."""

    def __init__(self, first: FilmBlock, second: FilmBlock, move: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.move = first, second, move

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x, condition), condition)
        return y


class Unet(nn.Module):
    """Noisy rows, time and observation to what the network predicts.

    Args:
        folder: widths and kernel come from its config.
        observation: numbers in the condition, without the time.
    """

    def __init__(self, folder: PolicyFolder, observation: int) -> None:
        super().__init__()
        actions, self.waves = folder.action_size, folder.setting("diffusion_step_embed_dim", 128)
        widths = [int(width) for width in folder.setting("down_dims", [512, 1024, 2048])]
        condition = self.waves + observation
        self.time = nn.Sequential(
            nn.Linear(self.waves, 4 * self.waves), nn.Mish(), nn.Linear(4 * self.waves, self.waves)
        )

        def block(inputs: int, outputs: int) -> FilmBlock:
            return FilmBlock(folder, inputs, outputs, condition)

        steps = [*pairwise([actions, *widths])]
        self.down = nn.ModuleList(
            Stage(block(a, b), block(b, b), nn.Conv1d(b, b, 3, 2, 1) if i < len(widths) - 1 else nn.Identity())
            for i, (a, b) in enumerate(steps)
        )
        self.mid = nn.ModuleList(block(widths[-1], widths[-1]) for _ in range(2))
        self.up = nn.ModuleList(
            Stage(block(2 * b, a), block(a, a), nn.ConvTranspose1d(a, a, 4, 2, 1)) for a, b in reversed(steps[1:])
        )
        # The last norm has 8 groups whatever n_groups says: so the library trains it.
        last = ConvBlock(widths[0], widths[0], folder.setting("kernel_size", 5), groups=8)
        self.out = nn.Sequential(last, nn.Conv1d(widths[0], actions, 1))

    def forward(self, rows: Tensor, time: Tensor, observation: Tensor) -> Tensor:
        """rows (B, R, A), time (B,) as the number of the training step, observation (B, C) to (B, R, A)."""
        condition = torch.cat([self.time(time_waves(time, self.waves)), observation], dim=-1)
        x, kept = rows.transpose(1, 2), []
        for stage in self.down:
            x = stage(x, condition)
            kept.append(x)
            x = stage.move(x)  # type: ignore[operator]
        for block in self.mid:
            x = block(x, condition)
        for stage in self.up:
            x = stage.move(stage(torch.cat([x, kept.pop()], dim=1), condition))  # type: ignore[operator]
        answer: Tensor = self.out(x).transpose(1, 2)
        return answer


def time_waves(time: Tensor, size: int) -> Tensor:
    """Sine and cosine features (B, size) of a time (B,)."""
    half = size // 2
    frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(10000) / (half - 1)))
    angles = time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
