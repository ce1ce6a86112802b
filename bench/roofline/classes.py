"""Operators into classes, and a class against its peak. Pure.

A product is held against the multiply-adds per second of large products, everything else against the speed of a large
copy: what it would take if it did nothing but move its tensors. Tensors that stay in a cache can be faster than that;
the share then says more than 100 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

INT8, FLOAT, ATTENTION, CONV = "int8 matmul", "float matmul", "attention products", "conv"
WEIGHT_ONLY, INT8_CONV = "weight-only matmul", "int8 conv"
SOFTMAX, LAYERNORM, ELEMENTWISE = "softmax", "layernorm", "gelu / elementwise"
LAYOUT, QUANTIZE, BETWEEN = "transpose / reshape", "quantize / dequantize", "between operators"

_OF = {
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger", "QLinearMatMul", "QGemm"), INT8),
    **dict.fromkeys(("MatMulNBits",), WEIGHT_ONLY),
    **dict.fromkeys(("MultiHeadAttention", "Attention", "GroupQueryAttention"), ATTENTION),
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv"), CONV),
    **dict.fromkeys(("QLinearConv", "ConvInteger"), INT8_CONV),
    **dict.fromkeys(("Softmax", "LogSoftmax"), SOFTMAX),
    **dict.fromkeys(("LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization",
                     "SkipSimplifiedLayerNormalization", "RMSNormalization", "BatchNormalization"), LAYERNORM),
    **dict.fromkeys(("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Concat", "Split", "Slice", "Gather",
                     "Expand", "Tile", "Pad", "Shape", "Identity", "ReorderInput", "ReorderOutput"), LAYOUT),
    **dict.fromkeys(("DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "Cast"), QUANTIZE),
}  # fmt: skip
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
UNIT = {INT8: "u8s8", INT8_CONV: "u8s8", FLOAT: "fp32", ATTENTION: "fp32", CONV: "fp32", WEIGHT_ONLY: "fp32"}


@dataclass(frozen=True)
class Operator:
    """One node of the graph that runs: its mean time and what it computes and moves."""

    op: str
    constant_weight: bool
    us: float
    multiply_adds: int
    bytes: int  # of the tensors it reads and writes
    name: str = field(default="", compare=False)  # of the node in the graph that runs


@dataclass(frozen=True)
class Peaks:
    """What this CPU reached on one thread in this run. An operation is a multiplication or an addition."""

    fp32_gops: float
    u8s8_gops: float
    copy_gbs: float  # bytes read plus bytes written

    def gops(self, unit: str) -> float:
        return {"fp32": self.fp32_gops, "u8s8": self.u8s8_gops}[unit]


@dataclass(frozen=True)
class Row:
    """One class. `reached` and `peak` in Gop/s for products, in GB/s for the rest; None where it cannot be said."""

    name: str
    operators: int
    ms: float
    share_of_time: float
    multiply_adds: int
    unit: str
    reached: float | None
    peak: float | None
    share_of_peak: float | None
    left_ms: float  # what would be saved at the peak

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def class_of(op: str, constant_weight: bool) -> str:
    """The class of an operator; products of two activations are attention."""
    if op in PRODUCTS:
        return FLOAT if constant_weight else ATTENTION
    return _OF.get(op, ELEMENTWISE)


def rows(operators: Iterable[Operator], wall_ms: float, peaks: Peaks) -> list[Row]:
    """Classes by time, the longest first, and what passes between operators last.

    wall_ms: one pass without a profiler; where the operators add up to more, all are scaled down to it.
    """
    groups: dict[str, list[Operator]] = {}
    for operator in operators:
        groups.setdefault(class_of(operator.op, operator.constant_weight), []).append(operator)
    total_ms = sum(operator.us for group in groups.values() for operator in group) / 1e3
    scale = min(1.0, wall_ms / total_ms) if total_ms > 0 else 1.0
    found = [_row(name, group, scale, wall_ms, peaks) for name, group in groups.items()]
    found.sort(key=lambda row: -row.ms)
    rest = max(0.0, wall_ms - total_ms * scale)
    return [*found, Row(BETWEEN, 0, rest, rest / wall_ms, 0, "", None, None, None, rest)]


def _row(name: str, group: list[Operator], scale: float, wall_ms: float, peaks: Peaks) -> Row:
    ms = scale * sum(operator.us for operator in group) / 1e3
    macs, moved = sum(operator.multiply_adds for operator in group), sum(operator.bytes for operator in group)
    if name in UNIT:
        peak, unit, work = peaks.gops(UNIT[name]), f"Gop/s {UNIT[name]}", 2 * macs
    else:
        peak, unit, work = peaks.copy_gbs, "GB/s", moved
    ideal_ms = work / peak / 1e6
    reached = work / ms / 1e6 if ms > 0 else None
    share = None if reached is None else reached / peak
    return Row(name, len(group), ms, ms / wall_ms, macs, unit, reached, peak, share, max(0.0, ms - ideal_ms))


def total(found: Iterable[Row]) -> Mapping[str, float]:
    """What the policy takes, what it would take with every class at its peak, and the quotient."""
    kept = list(found)
    ms = sum(row.ms for row in kept)
    left = sum(row.left_ms for row in kept)
    return {"ms": ms, "left_ms": left, "share_of_ceiling": (ms - left) / ms if ms > 0 else 0.0}
