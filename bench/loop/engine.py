"""A policy of a few lines for runs of the loop without a bundle: the process looks it up under its dotted name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgevla.control.config import PolicyConfig

Float32 = NDArray[np.float32]

HORIZON, CHANNELS = 32, 4
SCALE = 0.01  # m per unit of action, as in the reference policy
_CORNERS = np.array([[-0.3, 0.5, 0.35], [-0.1, 0.5, 0.25]], np.float32)  # m, far from the scene's goal
_NEAR = 0.02  # m
_LOW = np.array([-0.5, 0.40, 0.05, -1.0], np.float32)
_HIGH = np.array([0.5, 1.0, 0.5, 1.0], np.float32)


class Patrol:
    """To and fro between two corners, gripper open: the arm always moves and never succeeds."""

    def __init__(self) -> None:
        self._corner = 0

    def set_instruction(self, text: str) -> None:
        """Any."""

    def forget(self) -> None:
        """It remembers nothing."""

    def observe(self, images: Mapping[str, NDArray[np.uint8]], state: Float32) -> None:
        """It remembers nothing."""

    def node_providers(self) -> dict[str, dict[str, int]]:
        """It has no graph."""
        return {}

    def infer(self, images: Mapping[str, NDArray[np.uint8]], state: Float32, prefix: Float32) -> Float32:
        """Chunk (H, n) of deltas towards the corner, half a unit a tick at most."""
        if np.abs(_CORNERS[self._corner] - state[:3]).max() < _NEAR:
            self._corner = 1 - self._corner
        chunk = np.full((HORIZON, CHANNELS), -1.0, np.float32)
        chunk[:, :3] = np.clip((_CORNERS[self._corner] - state[:3]) / SCALE / HORIZON * 2, -0.5, 0.5)
        chunk[: len(prefix)] = prefix
        return chunk

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        """Absolute set-points (H, n), from `anchor`, the one at k + d - 1."""
        setpoints = chunk.copy()
        setpoints[d:, :3] = anchor[:3] + np.cumsum(chunk[d:, :3], axis=0) * SCALE
        setpoints[:d, :3] = anchor[:3]
        return np.clip(setpoints, _LOW, _HIGH)


def patrol(config: PolicyConfig) -> Patrol:
    """The engine factory."""
    return Patrol()
