"""A lesson beside the actions: where things are, read from what the head is given.

A few demonstrations show few places; a picture of a scene with its places is cheap in a simulator and says nothing of
what to do. The reader is thrown away after training: what is left is a policy that sees small things. A policy whose
head is told the places (`export.structures.narrow`) needs no reader: it has them already.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.structures.pictures import numbers

Array = npt.NDArray[np.float32]
BETA = 0.1  # deviations: errors below count less and less


class Places(nn.Module):
    """Reads places (B, T, K) from contexts (B, T, M, F), in deviations of the recorded ones.

    Args:
        recorded: (N, K) in metres, NaN where there is nothing: mean and deviation of each.
        width: F.
        weight: of this lesson beside that of the actions.
        told: the policy's own `told`, whose contexts begin with the places; what is not there is told as the mean.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, recorded: Array, width: int, weight: float, told: int = 0) -> None:
        super().__init__()
        self.weight, self.told = weight, told
        known = np.isfinite(recorded)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, recorded, 0.0).sum(0) / count
        spread = np.sqrt((np.where(known, recorded - mean, 0.0) ** 2).sum(0) / count)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(np.maximum(spread, 1e-3), dtype=torch.float32))
        if not told:
            self.reader = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, recorded.shape[1]))

    def forward(self, context: Tensor, places: Tensor) -> Tensor:
        """Weighted error of what is there. places: (B, T, K) in metres, NaN where there is nothing."""
        there = torch.isfinite(places)
        wanted = (torch.where(there, places, self.mean) - self.mean) / self.deviation
        error = nn.functional.smooth_l1_loss(self.read(context), wanted, reduction="none", beta=BETA)
        counted = torch.ones_like(there) if self.told else there
        return self.weight * (error * counted).sum() / counted.sum().clamp_min(1)

    def read(self, context: Tensor) -> Tensor:
        """(B, T, K), in deviations."""
        newest = context[:, :, -1]
        found: Tensor = newest[..., : self.told] if self.told else self.reader(newest)
        return found

    @torch.no_grad()
    def error_m(self, context: Tensor, places: Tensor) -> float:
        """Median distance in metres over the points (K / 3 a moment) that are there."""
        found = self.read(context) * self.deviation + self.mean
        distance = (found - places).unflatten(-1, (-1, 3)).norm(dim=-1)
        return float(distance[torch.isfinite(distance)].median())


def mixed(batch: Mapping[str, Tensor], stills: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows of both in one batch; of pictures without actions nothing counts but the places."""
    return {key: torch.cat(_alike(value, stills[key])) for key, value in batch.items()}


def _alike(mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures of which only some had to be fitted are numbers in both."""
    return (mine, theirs) if mine.dtype == theirs.dtype else (numbers(mine), numbers(theirs))


def require_places(recorded: Array | None, where: str) -> Array:
    """Raises BadInput: data without places."""
    if recorded is None:
        todo = "record it again with examples.metaworld.mt.demos, or leave `places` out"
        raise BadInput(explain(f"data for a lesson of places, {where}", "places in its shards", "none", todo))
    return recorded
