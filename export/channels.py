"""What the reference policy's numbers mean: its action channels, its state, its camera, its timing."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgevla.bundle.manifest import Camera

PERIOD_S = 0.0125
ACTION_NAMES = ("x", "y", "z", "gripper")
ACTION_SCALE = np.array([0.01, 0.01, 0.01, 1.0], np.float32)  # m per unit and tick; gripper effort
ACTION_LOW = np.array([-0.5, 0.40, 0.05, -1.0], np.float32)
ACTION_HIGH = np.array([0.5, 1.0, 0.5, 1.0], np.float32)
IS_DELTA = np.array([True, True, True, False])
STATE = (("hand_x", "m"), ("hand_y", "m"), ("hand_z", "m"), ("gripper", "1"))
TRAINING_CAMERA = Camera(
    "corner", 96, 96, 3, "rgb", 40.0, input_width=96, input_height=96, fit="exact", when_missing="refuse"
)


def action_channels() -> list[dict[str, Any]]:
    """The channels as the manifest of a bundle wants them."""
    kinds = [("delta", "cartesian", "world", "m")] * 3 + [("absolute", "gripper", "gripper", "1")]
    rows = zip(ACTION_NAMES, kinds, ACTION_SCALE, ACTION_LOW, ACTION_HIGH, strict=True)
    return [
        {"name": name, "kind": kind, "space": space, "frame": frame, "unit": unit,
         "scale": round(float(scale), 6), "offset": 0.0,
         "minimum": round(float(low), 6), "maximum": round(float(high), 6)}
        for name, (kind, space, frame, unit), scale, low, high in rows
    ]  # fmt: skip
