"""A policy of a few lines for the SO-101: every joint on a slow sine about where it began."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgevla.control.config import PolicyConfig

Float32 = NDArray[np.float32]
HORIZON = 32
SWING = 0.1  # rad, and of the gripper's range
PERIOD_S = 4.0


class Sway:
    """Absolute set-points, so that a chunk is one stretch of the same sine whenever it is asked for."""

    def __init__(self, period_s: float, channels: int) -> None:
        self._step, self._channels, self._ticks = period_s, channels, 0
        self._middle: Float32 | None = None

    def set_instruction(self, text: str) -> None:
        """Any."""

    def forget(self) -> None:
        """It goes on with its sine."""

    def observe(self, images: Mapping[str, NDArray[np.uint8]], state: Float32) -> None:
        """It remembers nothing."""

    def node_providers(self) -> dict[str, dict[str, int]]:
        """It has no graph."""
        return {}

    def infer(self, images: Mapping[str, NDArray[np.uint8]], state: Float32, prefix: Float32) -> Float32:
        """Chunk (H, n) that goes on from the prefix."""
        if self._middle is None:
            self._middle = np.array(prefix[-1] if len(prefix) else state[: self._channels], np.float32)
        phase = 2 * np.pi * (self._ticks + np.arange(HORIZON)) * self._step / PERIOD_S
        chunk = self._middle + SWING * np.sin(phase, dtype=np.float32)[:, None]
        chunk[: len(prefix)] = prefix
        self._ticks += 8
        return np.asarray(chunk, np.float32)

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        """They are set-points already."""
        return chunk


def sway(config: PolicyConfig) -> Sway:
    """The engine factory."""
    return Sway(config.period_s, config.channels)
