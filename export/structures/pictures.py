"""Pictures of a batch: bytes until they are where the network is, numbers there.

As numbers they are four times as large, and making them is most of what drawing a batch costs.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.distill.feed import fit
from export.teachers.interface import CameraSpec

Batch = dict[str, Tensor]
AHEAD = 3  # batches


def stacked(images: Sequence[npt.NDArray[np.uint8]], cameras: Sequence[CameraSpec]) -> Tensor:
    """Pictures (B, P, h, w, 3) of P cameras: uint8 where each has its camera's size, else float32, fitted.

    Raises:
        BadInput: see `fit`.
    """
    if all(image.shape[1:3] == (c.height, c.width) for image, c in zip(images, cameras, strict=True)):
        return torch.from_numpy(np.stack(images, axis=1))
    return torch.from_numpy(np.stack([fit(image, c) for image, c in zip(images, cameras, strict=True)], axis=1))


def light_of(rows: int, moments: int, most: float, dark: float, rng: np.random.Generator) -> Tensor:
    """What `shown` does to each picture, factor and offset (B, T, 2): a light for each row, some pictures black.

    Args:
        rows, moments: B, T.
        most: largest change of brightness and contrast, as a share.
        dark: share of pictures that are black.
        rng: of every draw; none for what is zero.
    """
    light = np.zeros((rows, moments, 2), np.float32)
    light[..., 0] = 1.0
    if most:
        gain, offset = (rng.uniform(-most, most, (rows, 1)).astype(np.float32) for _ in range(2))
        light[..., 0] += gain
        light[..., 1] = offset
    if dark:
        light[rng.random((rows, moments)) < dark] = 0.0, -1.0
    return torch.from_numpy(light)


def shown(batch: Mapping[str, Tensor]) -> Batch:
    """The batch as a network takes it: each `image` (B, T, P, h, w, 3) in [-1, 1], under its `light`."""
    found = dict(batch)
    for key in [key for key in batch if key.endswith("image")]:
        light = found.pop(key.removesuffix("image") + "light")
        found[key] = _lit(numbers(found[key]), light)
    return found


def numbers(pictures: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1], as the robot does it; what is float32 stays."""
    return pictures if pictures.is_floating_point() else pictures.float().div_(127.5).sub_(1.0)


def _lit(pictures: Tensor, light: Tensor) -> Tensor:
    factor, offset = light[..., None, None, None, None, :].unbind(-1)
    return (pictures * factor).add_(offset).clamp_(-1.0, 1.0)


@contextlib.contextmanager
def on_device(draw: Callable[[], Batch], device: str, ahead: int | None = None) -> Iterator[Callable[[], Batch]]:
    """What `draw` gives, moved to the device and `shown` there, in the same order.

    Args:
        draw: a batch.
        device: where the network is.
        ahead: batches that a thread draws meanwhile; None: AHEAD, where `device` is not this processor.
    """
    count = ahead if ahead is not None else 0 if torch.device(device).type == "cpu" else AHEAD
    if not count:
        yield lambda: _moved(draw(), device)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(draw) for _ in range(count))
        yield partial(_next, waiting, lambda: waiting.append(pool.submit(draw)), device)


def _next(waiting: deque[Any], more: Callable[[], None], device: str) -> Batch:
    batch = waiting.popleft().result()
    more()
    return _moved(batch, device)


def _moved(batch: Batch, device: str) -> Batch:
    return shown({key: value.to(device) for key, value in batch.items()})
