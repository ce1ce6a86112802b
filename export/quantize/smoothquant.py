"""SmoothQuant: large activation channels made smaller, their weights larger, the product the same.

A tensor with one scale wastes its 8 bits where few channels are much larger than the rest. Factors per channel
(Xiao et al. 2022, equation 4: max|x|^a / max|w|^(1 - a)) are folded into what stands before and after, so that the
graph gains no operator. A group gets them only where they lower the int8 error of its products, on frames that did not
choose `a`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgevla.errors import Refused, explain
from edgevla.policy.engine import open_session
from export.quantize.calibrate import Array, Calibration, TensorStats, observe
from export.quantize.graph import Float32, drop_initializers, finish, load, weight_of
from export.quantize.groups import Group, find_groups
from export.quantize.scales import MAX_ABS, channel_scales, to_int8

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
GAIN = 0.1  # least relative fall of the error that is worth another graph
OUTLIER = 6.0  # times the median channel
ROWS, FRAMES = 128, 16  # of each tensor kept to judge by
TOLERANCE = 1e-5  # relative rms: FP32 outputs before and after


@dataclass(frozen=True)
class GroupReport:
    """What was found and done. Errors: relative rms of the int8 products on the judging frames."""

    tensor: str
    products: tuple[str, ...]
    outliers: int  # channels above OUTLIER times the median
    alpha: float | None  # None: left as it is
    error_before: float
    error_after: float


@dataclass(frozen=True)
class Smoothed:
    """The graph, equal in FP32, and a report for each group."""

    graph: bytes
    groups: tuple[GroupReport, ...]


def smooth(graph: bytes, calibration: Calibration) -> Smoothed:
    """Folds factors where they help.

    Raises:
        BadInput: the graph or the calibration is unusable.
        Refused: the folded graph is not the same function (a fault of ours).
    """
    model = load(graph)
    groups = find_groups(model)
    frames = iter(calibration)
    first = next(frames, None)
    feeds = itertools.chain(() if first is None else (first,), frames)
    seen = {g.tensor: _Seen() for g in groups}
    observe(graph, list(seen), feeds, lambda name, values: seen[name].add(values))
    reports = []
    for group in groups:
        weights = [_constant(model, p.node, 1) for p in group.products]
        report = _judge(group, weights, seen[group.tensor])
        reports.append(report)
        if report.alpha is not None:
            _fold(model, group, factors(seen[group.tensor].stats.channel_max, weights, report.alpha))
    if all(report.alpha is None for report in reports):
        return Smoothed(graph, tuple(reports))
    result = finish(model)
    _require_equal(graph, result, first or {})
    return Smoothed(result, tuple(reports))


class _Seen:
    """Statistics of a tensor and some of its rows."""

    def __init__(self) -> None:
        self.stats = TensorStats()
        self.rows: list[Float32] = []

    def add(self, values: Array) -> None:
        self.stats.add(values)
        if len(self.rows) < FRAMES:
            flat = values.reshape(-1, values.shape[-1])
            self.rows.append(flat[:: max(1, len(flat) // ROWS)][:ROWS].astype(np.float32))


def factors(channel_max: Float32, weights: list[Float32], alpha: float) -> Float32:
    """Factor (C,) by which each channel of the activation is divided; weights (C, N)."""
    activation = np.maximum(channel_max, 1e-5)
    weight = np.maximum(np.max([np.abs(w).max(1) for w in weights], axis=0), 1e-5)
    return np.asarray(activation**alpha / weight ** (1 - alpha), np.float32)


def int8_error(rows: list[Float32], weights: list[Float32], factor: Float32 | float = 1.0) -> float:
    """Relative rms of int8 products: U8 per frame and tensor, S8 per output channel."""
    scaled = np.reshape(factor, (-1, 1))
    weight = np.concatenate(weights, axis=1)
    grid = _on_grid(weight * scaled)
    wrong = right = 0.0
    for x in rows:
        exact = x @ weight
        wrong += float(np.square(_unsigned(x / scaled.T) @ grid - exact).sum())
        right += float(np.square(exact).sum())
    return float(np.sqrt(wrong / max(right, 1e-30)))


def _on_grid(weight: Float32) -> Float32:
    scale = channel_scales(weight, 1, MAX_ABS)
    return to_int8(weight, scale, 1) * scale


def _unsigned(x: Float32) -> Float32:
    """As DynamicQuantizeLinear rounds."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = max(high - low, 1e-12) / 255
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale, np.float32)


def _judge(group: Group, weights: list[Float32], seen: _Seen) -> GroupReport:
    """Every second frame chooses alpha, the others say whether it helps."""
    choosing, judging = seen.rows[::2], seen.rows[1::2] or seen.rows
    channel_max = seen.stats.channel_max
    alpha = min(ALPHAS, key=lambda a: int8_error(choosing, weights, factors(channel_max, weights, a)))
    before = int8_error(judging, weights)
    after = int8_error(judging, weights, factors(channel_max, weights, alpha))
    helps = after < (1 - GAIN) * before
    outliers = int((channel_max > OUTLIER * np.median(channel_max)).sum())
    names = tuple(p.node for p in group.products)
    return GroupReport(group.tensor, names, outliers, alpha if helps else None, before, after if helps else before)


def _fold(model: onnx.ModelProto, group: Group, factor: Float32) -> None:
    """In place."""
    for p in group.products:
        _multiply(model, p.node, 1, factor[:, None])
    for node, position in group.makers:
        _multiply(model, node, position, 1.0 / factor)


def _constant(model: onnx.ModelProto, node_name: str, position: int) -> Float32:
    """What an input of a node holds by now: a product may belong to one group and make the tensor of another."""
    node = next(node for node in model.graph.node if node.name == node_name)
    return weight_of(model, node.input[position])


def _multiply(model: onnx.ModelProto, node_name: str, position: int, factor: Any) -> None:
    """An initializer times the factor, for this node alone: an exporter may share one between layers."""
    value = (_constant(model, node_name, position) * factor).astype(np.float32)
    node = next(node for node in model.graph.node if node.name == node_name)
    old, new = node.input[position], f"{node_name}.input{position}.smooth"
    node.input[position] = ""
    if not any(old in other.input for other in model.graph.node):
        drop_initializers(model, {old})
    node.input[position] = new
    model.graph.initializer.append(numpy_helper.from_array(value, new))


def _require_equal(before: bytes, after: bytes, feed: Mapping[str, Array]) -> None:
    """One frame through both graphs in FP32."""
    rows = [open_session(graph, "SmoothQuant").run(None, dict(feed)) for graph in (before, after)]
    for exact, folded in zip(*rows, strict=True):
        error = float(np.linalg.norm(folded - exact) / max(float(np.linalg.norm(exact)), 1e-30))
        if not error <= TOLERANCE:
            expected = f"the same function within {TOLERANCE:g}"
            raise Refused(explain("SmoothQuant folding", expected, f"{error:.2g}", "report this"))
