"""From raw camera bytes and raw state to what the graphs take. NumPy only, the same on workstation and robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain

Float32 = npt.NDArray[np.float32]


def image_tensor(image: npt.NDArray[np.uint8], height: int, width: int) -> Float32:
    """RGB uint8 (h, w, 3) to float32 (1, h, w, 3) in [-1, 1].

    Raises:
        BadInput: another size or dtype.
    """
    expected = (height, width, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise BadInput(
            explain(
                "camera image",
                f"uint8 {expected}",
                f"{image.dtype} {image.shape}",
                "set the camera to the resolution in cameras.toml of the bundle",
            )
        )
    return (image.astype(np.float32) / np.float32(127.5) - np.float32(1.0))[None]


def state_tensor(state: npt.NDArray[np.floating[Any]], mean: Float32, std: Float32) -> Float32:
    """State (S,) in its units to float32 (1, S), zero mean and unit deviation.

    Raises:
        BadInput: another length, or a value that is not finite.
    """
    values = np.asarray(state, np.float32)
    if values.shape != mean.shape or not np.isfinite(values).all():
        raise BadInput(
            explain(
                "robot state",
                f"{len(mean)} finite numbers",
                f"{state!r}",
                "check the arm's profile and its wiring",
            )
        )
    return ((values - mean) / std)[None]


def prefix_tensors(prefix: Float32, horizon: int, d_max: int) -> tuple[Float32, Float32]:
    """Prefix (d, A) to rows (1, H, A), zero past d, and their mask (1, H, 1).

    Raises:
        BadInput: longer than the policy was trained with, or a value that is not finite.
    """
    depth = len(prefix)
    if depth > d_max or not np.isfinite(prefix).all():
        raise BadInput(
            explain(
                "action prefix",
                f"at most {d_max} finite rows",
                f"{prefix!r}",
                "lower L or train with a longer prefix",
            )
        )
    rows = np.zeros((1, horizon, prefix.shape[1]), np.float32)
    mask = np.zeros((1, horizon, 1), np.float32)
    rows[0, :depth], mask[0, :depth] = prefix, 1.0
    return rows, mask
