"""Numbers in words an engineer reads at a glance. ``None`` becomes ``MISSING``, never a zero."""

from __future__ import annotations

from collections.abc import Callable

MISSING = "missing"
SENSE = {"at_most": "≤", "at_least": "≥"}

# Key in report.json -> name on the page. The order is the order of the rows.
MODELS = {"teacher": "Teacher", "student_fp32": "Student FP32", "student_int8": "Student int8"}
LATENCIES = {
    "teacher_eager": "Teacher · torch eager",
    "teacher_fp32": "Teacher · ONNX Runtime FP32",
    "student_fp32": "Student · ONNX Runtime FP32",
    "student_int8": "Student · ONNX Runtime int8",
    "student_int8/vision": "int8 · vision stage",
    "student_int8/head": "int8 · head stage",
    "student_int8/preprocess": "int8 · preprocessing",
}

# What no figure of the page says; shown at its end.
LIMITS = (
    (
        "Simulation and a virtual arm over a pty stand in for a robot: real bytes and a real clock, but no "
        "motor, no cable, no camera exposure. No figure here is a Jetson figure."
    ),
    (
        "Success intervals treat episodes as independent draws from six simulated tasks. They say nothing "
        "about other tasks, cameras or rooms."
    ),
    (
        "Wake latency on a shared or virtual host includes time the hypervisor took; p99.9 is observed over "
        "this run, and no number of samples bounds a maximum."
    ),
    (
        "Ratios between models of one run carry over to other hosts better than milliseconds do; what int8 "
        "gains depends on the dot-product instructions of the CPU."
    ),
)


def duration(ns: float | None) -> str:
    """Nanoseconds with three significant digits: ``1.34 ms``."""
    if ns is None:
        return MISSING
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(ns) >= size * 0.9995:
            return f"{three(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def ms(value: float | None) -> str:
    """Milliseconds: ``1.34 ms``."""
    return duration(None if value is None else value * 1e6)


def seconds(value: float | None) -> str:
    """Wall time: ``8 s``, ``4 min 10 s``."""
    if value is None:
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def count(value: float | None) -> str:
    """``3.42 M``, ``512 k``."""
    if value is None:
        return MISSING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{three(value / size)} {unit}"
    return f"{value:.0f}"


def size(value: float | None) -> str:
    """Bytes, decimal units: ``3.61 MB``."""
    return MISSING if value is None else f"{count(value)}B" if value >= 1e3 else f"{value:.0f} B"


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 1 as percent."""
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, signed, with a real minus."""
    return MISSING if value is None else f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def whole(value: float | None) -> str:
    """``12,345``."""
    return MISSING if value is None else f"{value:,.0f}"


def small(value: float | None) -> str:
    """Errors and tolerances: ``1.3e-05`` or ``0.0132``."""
    if value is None:
        return MISSING
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def times(value: float | None) -> str:
    """A ratio: ``2.61×``."""
    return MISSING if value is None else f"{three(value)}×"


def three(value: float) -> str:
    """Three significant digits without exponent."""
    magnitude = abs(value)
    return f"{value:.0f}" if magnitude >= 99.95 else f"{value:.1f}" if magnitude >= 9.995 else f"{value:.2f}"


def in_unit(value: float | None, unit: str) -> str:
    """A number in the unit a budget names: ms | x | share | s | count."""
    show: dict[str, Callable[[float | None], str]] = {
        "ms": ms,
        "x": times,
        "share": percent,
        "s": seconds,
        "count": whole,
    }
    return show.get(unit, small)(value)
