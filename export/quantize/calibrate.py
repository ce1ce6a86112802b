"""Ranges of activations from real frames, in memory that does not grow with their number.

The FP32 graph runs frame by frame; of each tensor only a histogram, its extremes and the largest value per channel are
kept. Tensors are fetched in groups, so that no run holds more than `budget_bytes` of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgevla.errors import BadInput, explain
from edgevla.policy.engine import open_session
from export.quantize.graph import Float32, load, shapes_of

Array = npt.NDArray[Any]
Calibration = Iterable[Mapping[str, Array]]  # feeds of one stage, real frames, batch 1; read once
HALF = 1024  # bins on each side of zero
BUDGET_BYTES = 64 << 20


class TensorStats:
    """What is kept of one tensor: extremes, largest magnitude per channel (last axis), histogram."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.channel_max: Float32 = np.zeros(1, np.float32)
        self._counts = np.zeros(2 * HALF, np.int64)
        self._reach = 0.0  # the bins cover [-reach, reach]

    def add(self, values: Array) -> None:
        """One more frame of it."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        channels = np.abs(values).reshape(-1, values.shape[-1] if values.ndim else 1).max(0).astype(np.float32)
        self.channel_max = np.maximum(self.channel_max, channels)
        self._widen(max(abs(self.low), abs(self.high)))
        counts, _ = np.histogram(values, 2 * HALF, (-self._reach, self._reach))
        self._counts += counts

    def _widen(self, largest: float) -> None:
        """Doubles the reach until it covers the value: pairs of bins become one, the centre stays."""
        if self._reach == 0.0:
            self._reach = max(largest, 1e-12)
        while self._reach < largest:
            pairs = self._counts.reshape(-1, 2).sum(1)
            self._counts[:] = 0
            self._counts[HALF // 2 : HALF // 2 + HALF] = pairs
            self._reach *= 2

    def range(self, tail: float = 0.0) -> tuple[float, float]:
        """Lowest and highest value, less a share `tail` of the values on each side (to one bin of the histogram)."""
        if tail == 0.0:
            return self.low, self.high
        share = np.cumsum(self._counts) / max(int(self._counts.sum()), 1)
        edges = np.linspace(-self._reach, self._reach, 2 * HALF + 1)
        low = edges[int(np.searchsorted(share, tail, side="right"))]
        high = edges[int(np.searchsorted(share, 1.0 - tail, side="left")) + 1]
        return max(self.low, float(low)), min(self.high, float(high))

    def symmetric_scale(self, tail: float = 0.0) -> float:
        """Scale of int8 with zero-point 0."""
        low, high = self.range(tail)
        return max(abs(low), abs(high), 1e-12) / 127

    def unsigned_scale(self, tail: float = 0.0) -> tuple[float, int]:
        """Scale and zero-point of uint8; 0.0 is always on the grid."""
        low, high = self.range(tail)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-12) / 255
        return scale, int(np.clip(round(-low / scale), 0, 255))


def collect(
    graph: bytes, tensors: Iterable[str], calibration: Calibration, budget_bytes: int = BUDGET_BYTES
) -> dict[str, TensorStats]:
    """Statistics of tensors over all frames.

    Raises:
        BadInput: no frames, a feed that does not fit, NaN or infinity in a feed or in a tensor.
    """
    stats = {name: TensorStats() for name in tensors}

    def note(name: str, values: Array) -> None:
        stats[name].add(values)

    observe(graph, list(stats), calibration, note, budget_bytes)
    return stats


def layer_outputs(graph: bytes, tensors: Iterable[str], feed: Mapping[str, Array]) -> dict[str, Array]:
    """Values of tensors for one frame, whole."""
    found: dict[str, Array] = {}
    observe(graph, list(tensors), [feed], found.__setitem__)
    return found


def observe(
    graph: bytes,
    tensors: list[str],
    calibration: Calibration,
    note: Callable[[str, Array], None],
    budget_bytes: int = BUDGET_BYTES,
) -> int:
    """Calls `note(tensor, values)` for each tensor and frame; returns the number of frames."""
    model = load(graph)
    groups = list(_groups(model, tensors, budget_bytes))
    session: Any = open_session(_with_outputs(model, tensors), "calibration")
    wanted = {value.name for value in model.graph.input}
    frames = 0
    for frames, feed in enumerate(calibration, 1):
        _require_feed(feed, wanted, frames)
        for group in groups:
            _run(session, feed, group, note)
    if not frames:
        raise BadInput(explain("calibration", "at least one frame", "none", "give feeds of real frames"))
    return frames


def _run(session: Any, feed: Mapping[str, Array], group: list[str], note: Callable[[str, Array], None]) -> None:
    inside = [name for name in group if name not in feed]
    try:
        values = session.run(inside, dict(feed)) if inside else []
    except Exception as error:  # what ONNX Runtime raises has no base class of its own
        raise BadInput(explain("calibration frame", "shapes of the graph", str(error)[:200], "see docs")) from error
    for name, value in (*zip(inside, values, strict=True), *((n, feed[n]) for n in group if n in feed)):
        if not np.isfinite(value).all():
            todo = "check weights and frames"
            raise BadInput(explain(f"tensor {name} in calibration", "finite numbers", "NaN or infinity", todo))
        note(name, value)


def _require_feed(feed: Mapping[str, Array], wanted: set[str], number: int) -> None:
    if set(feed) != wanted:
        raise BadInput(
            explain(f"calibration frame {number}", sorted(wanted), sorted(feed), "give one array for each input")
        )
    for name, value in feed.items():
        if not np.isfinite(value).all():
            what = f"input {name} of calibration frame {number}"
            raise BadInput(explain(what, "finite numbers", "NaN or infinity", "leave out that frame"))


def _with_outputs(model: onnx.ModelProto, tensors: list[str]) -> bytes:
    """The graph with inner tensors as outputs too."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    there = {value.name for value in (*copy.graph.output, *copy.graph.input)}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in there)
    return bytes(copy.SerializeToString())


def _groups(model: onnx.ModelProto, tensors: list[str], budget_bytes: int) -> Iterator[list[str]]:
    """Tensors in groups of at most the budget (a single one may be larger)."""
    shapes = shapes_of(model)
    sizes = {name: 4 * math.prod(shapes[name]) for name in tensors if name in shapes}
    group: list[str] = []
    total = 0
    for name in tensors:
        size = sizes.get(name, budget_bytes)
        if group and total + size > budget_bytes:
            yield group
            group, total = [], 0
        group, total = [*group, name], total + size
    if group:
        yield group
