"""A camera that delivers nothing for some inferences: what a policy does that cannot see all the time."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.sim.lockstep import Policy

Float32 = npt.NDArray[np.float32]


class Dark:
    """Another policy, shown black pictures in a share of its inferences.

    Which ones follows from the words and the first state of an episode, so every policy misses the same ones.
    """

    def __init__(self, policy: Policy, share: float) -> None:
        self._policy, self._share, self._text = policy, share, ""
        self._rng: np.random.Generator | None = None

    def set_instruction(self, text: str) -> None:
        self._policy.set_instruction(text)
        self._text, self._rng = text, None

    def infer(self, image: Any, state: Float32, prefix: Float32) -> Float32:
        if self._rng is None:
            self._rng = np.random.default_rng(zlib.crc32(self._text.encode() + state.tobytes()))
        black = self._rng.random() < self._share
        return self._policy.infer(np.zeros_like(image) if black else image, state, prefix)

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        return self._policy.to_setpoints(chunk, anchor, d)
