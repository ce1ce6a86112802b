"""From raw camera bytes and raw state to what the graphs take. NumPy only, the same on workstation and robot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Camera
from edgevla.errors import BadInput, explain

Float32 = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8] | Mapping[str, npt.NDArray[np.uint8]]


def pictures(images: Images, cameras: Sequence[Camera]) -> tuple[Float32, Float32]:
    """Raw pictures to float32 (N, h, w, 3) in [-1, 1] as the graphs take them, and which are there, float32 (N,).

    Args:
        images: the only camera's picture, uint8 (h, w, 3), or pictures by camera.
        cameras: those of the bundle, in its order.

    Raises:
        BadInput: a camera is missing that may not be, or one that the bundle does not know; another size or dtype.
    """
    given = images if isinstance(images, Mapping) else {cameras[0].name: images}
    unknown = sorted(set(given) - {camera.name for camera in cameras})
    absent = [c.name for c in cameras if c.name not in given and c.when_missing == "refuse"]
    if unknown or absent:
        names = ", ".join(f"{c.name} (may be absent)" if c.when_missing == "blank" else c.name for c in cameras)
        todo = "name the arm's cameras as the bundle does"
        raise BadInput(explain("cameras", names, ", ".join(given) or "none", todo))
    rows = [image_tensor(given[c.name], c) if c.name in given else _blank(c) for c in cameras]
    present = np.array([c.name in given for c in cameras], np.float32)
    return (rows[0] if len(rows) == 1 else np.concatenate(rows)), present


def image_tensor(image: npt.NDArray[np.uint8], camera: Camera) -> Float32:
    """RGB uint8 (h, w, 3) of the camera to float32 (1, h', w', 3) in [-1, 1], fitted to the graphs' size.

    Raises:
        BadInput: another size or dtype.
    """
    expected = (camera.height, camera.width, 3)
    if image.shape != expected or image.dtype != np.uint8:
        todo = "set the camera to the resolution in cameras.toml of the bundle"
        got = f"{image.dtype} {image.shape}"
        raise BadInput(explain(f"image of camera {camera.name}", f"uint8 {expected}", got, todo))
    scaled = image.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return (scaled if camera.fit == "exact" else fitted(scaled, camera.input_height, camera.input_width, camera.fit))[
        None
    ]


def fitted(image: Float32, height: int, width: int, fit: str) -> Float32:
    """(..., h, w, 3) resized to (..., height, width, 3): bilinear between pixel centres, no smoothing before.

    fit: `stretch`, or `pad`: aspect kept, -1 at the top and left (as SmolVLA and pi0 were trained).
    """
    if fit == "stretch":
        return _resized(image, height, width)
    tall, wide = image.shape[-3:-1]
    ratio = max(wide / width, tall / height)
    inner = _resized(image, int(tall / ratio), int(wide / ratio))
    whole = np.full((*image.shape[:-3], height, width, 3), -1.0, np.float32)
    whole[..., height - inner.shape[-3] :, width - inner.shape[-2] :, :] = inner
    return whole


def _resized(image: Float32, height: int, width: int) -> Float32:
    if image.shape[-3:-1] == (height, width):
        return image
    top, bottom, down = _neighbours(image.shape[-3], height)
    left, right, across = _neighbours(image.shape[-2], width)
    above, left_of = image[..., top, :, :], (..., left, slice(None))
    rows = above + (image[..., bottom, :, :] - above) * down[:, None, None]
    result: Float32 = rows[left_of] + (rows[..., right, :] - rows[left_of]) * across[:, None]
    return result


@lru_cache(maxsize=32)
def _neighbours(size: int, wanted: int) -> tuple[Any, Any, Float32]:
    """For each of `wanted` pixels: the two source pixels and the weight of the second."""
    place = np.maximum((np.arange(wanted) + 0.5) * (size / wanted) - 0.5, 0.0)
    first = np.minimum(place.astype(np.int64), size - 1)
    return first, np.minimum(first + 1, size - 1), (place - first).astype(np.float32)


def _blank(camera: Camera) -> Float32:
    return np.full((1, camera.input_height, camera.input_width, 3), -1.0, np.float32)


def state_tensor(state: npt.NDArray[np.floating[Any]], offset: Float32, scale: Float32) -> Float32:
    """State (S,) in its units to float32 (1, S), (state - offset) / scale.

    Raises:
        BadInput: another length, or a value that is not finite.
    """
    values = np.asarray(state, np.float32)
    if values.shape != offset.shape or not np.isfinite(values).all():
        raise BadInput(
            explain(
                "robot state",
                f"{len(offset)} finite numbers",
                f"{state!r}",
                "check the arm's profile and its wiring",
            )
        )
    return ((values - offset) / scale)[None]


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
