"""Weight scales: symmetric, one per output channel, one set for every artifact.

A weight w becomes clip(round(w / scale), -127, 127), rounding half to even as QuantizeLinear does; -128 stays unused,
so that the grid is symmetric. `dynamic-s8`, `static-qdq` and `trt` get the same int8 weights bit for bit.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edgevla.errors import BadInput, explain
from export.quantize.graph import Float32, Product, load, products, weight_of

LEVELS = 127
BLOCK = 1 << 18  # weights worked on at a time: they stay in the cache
MAX_ABS = np.ones(1, np.float32)
RATIOS = np.array(
    [1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7], np.float32
)  # of the largest weight that the grid still reaches

WeightScales = Mapping[str, npt.NDArray[np.float32]]  # node -> (channels,), > 0


def weight_scales(graph: bytes, ratios: Float32 = RATIOS) -> dict[str, Float32]:
    """Scales of every product with a constant weight, by node."""
    model = load(graph)
    return {p.node: channel_scales(weight_of(model, p.weight), p.axis, ratios) for p in products(model)}


def channel_scales(weight: Float32, axis: int, ratios: Float32 = RATIOS) -> Float32:
    """Scales (channels,) with the least squared error among `ratios` of the largest absolute weight.

    Ratios of [1.0] alone are plain max-abs; with 1.0 among them the error is never above that of max-abs.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    step = max(1, BLOCK // rows.shape[1])
    return np.concatenate([_best(rows[i : i + step], ratios) for i in range(0, len(rows), step)])


def _best(rows: Float32, ratios: Float32) -> Float32:
    """The scales of some channels; rows (channels, depth)."""
    largest = np.maximum(np.abs(rows).max(1), np.finfo(np.float32).tiny * LEVELS)
    best: Any = largest / LEVELS
    least: Any = np.full(len(rows), np.inf)
    for ratio in ratios:
        scale = (largest * ratio / LEVELS).astype(np.float32)
        steps = np.clip(np.rint(rows / scale[:, None]), -LEVELS, LEVELS)
        error = np.square(steps * scale[:, None] - rows).sum(1, dtype=np.float64)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return np.asarray(best, np.float32)


def to_int8(weight: Float32, scale: Float32, axis: int) -> npt.NDArray[np.int8]:
    """The weight on the grid of its scales."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.clip(np.rint(weight / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)


def weight_error(weight: Float32, scale: Float32, axis: int) -> float:
    """Relative rms of what the grid does to a weight."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    rest = to_int8(weight, scale, axis) * scale.reshape(shape) - weight
    return float(np.linalg.norm(rest) / max(float(np.linalg.norm(weight)), 1e-30))


def clipping_errors(graph: bytes) -> dict[str, tuple[float, float]]:
    """Node -> relative rms of its weight by max-abs scales and by those with the least squared error."""
    model, found = load(graph), {}
    for p in products(model):
        weight = weight_of(model, p.weight)
        plain, clipped = (weight_error(weight, channel_scales(weight, p.axis, r), p.axis) for r in (MAX_ABS, RATIOS))
        found[p.node] = (plain, clipped)
    return found


def scale_of(product: Product, weight: Float32, scales: WeightScales | None) -> Float32:
    """The scales of one product: from the set or, without a set, its own.

    Raises:
        BadInput: the set lacks the product, or holds other channels or numbers that are no scales.
    """
    if scales is None:
        return channel_scales(weight, product.axis)
    found = scales.get(product.node)
    if found is None or found.shape != (product.channels,) or not (np.isfinite(found).all() and (found > 0).all()):
        expected = f"({product.channels},) finite and above 0"
        got = "none" if found is None else f"shape {found.shape}, least {found.min():g}"
        raise BadInput(explain(f"weight scales of {product.node}", expected, got, "make them from this graph"))
    return found


def save_scales(path: Path, stages: Mapping[str, WeightScales]) -> None:
    """One file for all stages of a bundle (safetensors, keys `stage/node`)."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(scales_bytes(stages))
    os.replace(part, path)


def scales_bytes(stages: Mapping[str, WeightScales]) -> bytes:
    """The same file as bytes."""
    return save({f"{stage}/{node}": value for stage, scales in stages.items() for node, value in scales.items()})


def load_scales(path: Path) -> dict[str, dict[str, Float32]]:
    """Stage -> node -> scales.

    Raises:
        BadInput: not such a file.
    """
    found: defaultdict[str, dict[str, Float32]] = defaultdict(dict)
    try:
        for key, value in load_file(path).items():
            stage, _, node = key.partition("/")
            found[stage][node] = value
    except (OSError, SafetensorError) as error:
        todo = "write it again with save_scales()"
        raise BadInput(explain("weight scales", f"a whole {path.name}", str(error), todo)) from error
    return dict(found)
