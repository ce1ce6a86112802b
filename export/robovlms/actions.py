"""Actions as RoboVLMs checkpoints know them: normalised, companded, or as words of the language model. NumPy, pure.

An action is (..., n), the gripper last. `keep_last` leaves the gripper as it is: training there does so, the CALVIN
evaluation of the same authors does not, so a checkpoint's own way must be named where it is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
OFFSET = 10  # words of the vocabulary that their tokenizer leaves free between special words and actions


def normalise(action: Array, low: float, high: float, keep_last: bool) -> Array:
    """Clipped to [low, high], then affine to [-1, 1]. float, the shape of `action`."""
    return _kept(action, 2 * (np.clip(action, low, high) - low) / (high - low) - 1, keep_last)


def denormalise(action: Array, low: float, high: float, keep_last: bool) -> Array:
    """From [-1, 1] to [low, high]. The inverse of `normalise` inside the range."""
    return _kept(action, 0.5 * (action + 1) * (high - low) + low, keep_last)


def compand(action: Array, mu: float, keep_last: bool = True) -> Array:
    """mu-law: small values get more of [-1, 1]."""
    return _kept(action, np.sign(action) * np.log1p(mu * np.abs(action)) / np.log1p(mu), keep_last)


def expand(action: Array, mu: float, keep_last: bool = True) -> Array:
    """The inverse of `compand`."""
    return _kept(action, np.sign(action) * np.expm1(np.abs(action) * np.log1p(mu)) / mu, keep_last)


def _kept(before: Array, after: Array, keep_last: bool) -> Array:
    return np.concatenate([after[..., :-1], before[..., -1:]], axis=-1) if keep_last else after


@dataclass(frozen=True)
class Words:
    """Values as the last words of a vocabulary. `bins` edges make `bins` - 1 intervals, whose middles are the values.

    The word of a value is `top` minus the number (from 1) of its interval; the upper edge itself has number `bins` and
    means the last interval.
    """

    vocabulary: int  # words of the tokenizer
    special: int  # special words that it lists
    bins: int = 256
    low: float = -1.0
    high: float = 1.0

    @property
    def top(self) -> int:
        return self.vocabulary - self.special - OFFSET

    @property
    def edges(self) -> Array:
        return np.linspace(self.low, self.high, self.bins)

    def encode(self, values: Array) -> NDArray[np.int64]:
        """Words of values of any shape."""
        numbers = np.digitize(np.clip(values, self.low, self.high), self.edges)
        return (self.top - numbers).astype(np.int64)

    def decode(self, words: NDArray[np.integer]) -> Array:
        """Middles of their intervals; a word outside the range means the nearest interval."""
        edges = self.edges
        middles = (edges[:-1] + edges[1:]) / 2
        return np.asarray(middles[np.clip(self.top - words - 1, 0, len(middles) - 1)])
