"""Where things are, instead of what was seen: a narrow way from the picture to the head.

A head that is given all that was seen may learn fifty scenes of a task by heart. Told only where things are, what was
said and where the robot is, it can learn what follows from them, which holds for scenes it never saw. Where
things are is a lesson of its own (`export.structures.places`), from pictures that need no actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SAID = 128  # numbers that are left of a sentence
NOISE = 0.03  # deviations by which places are off in training: what is read from new pictures is never quite right


class Narrow(nn.Module):
    """Features (B, T, F) to others of that shape, whose first K numbers are the places, in deviations.

    Args:
        places: K.
        inner: D, width of words and body.
        width: F.
    """

    def __init__(self, places: int, inner: int, width: int) -> None:
        super().__init__()
        self.find = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, places))
        self.say = nn.Sequential(nn.Linear(inner, SAID), nn.GELU(), nn.Linear(SAID, SAID))
        self.tell = nn.Sequential(
            nn.Linear(places + SAID + inner, 2 * width), nn.GELU(),
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width - places),
        )  # fmt: skip

    def forward(self, seen: Tensor, words: Tensor, there: Tensor, body: Tensor) -> Tensor:
        """seen (B, T, F), words (B, L, D) and which are there (B, L), body (B, T, D)."""
        return self.told(self.find(seen), words, there, body)

    def told(self, found: Tensor, words: Tensor, there: Tensor, body: Tensor) -> Tensor:
        """The same of places that were found before, (B, T, K)."""
        heard = (words * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp_min(1.0)
        said = self.say(heard)[:, None].expand(-1, found.shape[1], -1)
        near = found + NOISE * torch.randn_like(found) if self.training else found
        return torch.cat([found, self.tell(torch.cat([near, said, body], dim=-1))], dim=-1)
