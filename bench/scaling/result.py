"""From what was measured along an axis to its curve, its exponent and its walls. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.scaling.axes import Axis
from bench.scaling.fit import LEAST, local_exponents, p99, power_law, wall

Json = Mapping[str, Any]


def axis_result(axis: Axis, measured: Json, limits: Mapping[str, float]) -> dict[str, Any]:
    """`limits`: policy (T, ms), budget (L, ms), servo (share of its core)."""
    told = _policy(measured) if axis.kind == "policy" else _servo(axis, measured)
    limit = limits["policy"] if axis.kind == "policy" else limits["servo"]
    values = [point["value"] for point in told["points"]]
    law = power_law(values, told["samples"]) if len(values) >= LEAST else None
    judged = [point["p99"] for point in told["points"]]
    enough = len(values) >= 2
    blank = {"value": None, "beyond": False, "headroom": None}
    found = {
        "axis": axis.name,
        "unit": axis.unit,
        "cost": told["cost"],
        "cost_unit": told["cost_unit"],
        "points": told["points"],
        "power_law": None if law is None else law.as_dict(),
        "local_exponents": local_exponents(values, [p["p50"] for p in told["points"]]) if enough else [],
        "limit": limit,
        "limit_is": "control period" if axis.kind == "policy" else "what real-time tasks may take",
        "wall": wall(values, judged, limit).as_dict() if enough else blank,
        "skipped": dict(measured["skipped"]),
    }
    if axis.kind == "policy" and enough:
        found["budget_wall"] = wall(values, judged, limits["budget"]).as_dict()
    return found


def _policy(measured: Json) -> dict[str, Any]:
    points = [
        {"value": value, "p50": round(float(np.median(ns)) / 1e6, 4), "p99": round(p99(ns) / 1e6, 4),
         "parameters": parameters, "rounds": len(ns)}
        for value, ns, parameters in zip(measured["values"], measured["ns"], measured["parameters"], strict=True)
    ]  # fmt: skip
    samples = [[ns / 1e6 for ns in row] for row in measured["ns"]]
    return {"cost": "inference", "cost_unit": "ms", "points": points, "samples": samples}


def _servo(axis: Axis, measured: Json) -> dict[str, Any]:
    """All servos share one core: their shares add up. p99 of lateness and misses beside them."""
    points, samples = [], []
    for value, arms in zip(measured["values"], measured["arms"], strict=True):
        share = max(1e-6, sum(arm["cpu_share"] for arm in arms))
        points.append({
            "value": value, "p50": round(share, 5), "p99": round(share, 5),
            "write_p50_us": max(arm["write_p50_us"] for arm in arms),
            "write_p99_us": max(arm["write_p99_us"] for arm in arms),
            "misses": sum(arm["misses"] for arm in arms),
            "steps": sum(arm["servo_steps"] for arm in arms),
            "late_commands": sum(arm["late_commands"] for arm in arms),
        })  # fmt: skip
        samples.append(_added([arm["shares"] for arm in arms], share))
    return {"cost": "servo's share of its core", "cost_unit": "1", "points": points, "samples": samples}


def _added(shares: Sequence[Sequence[float]], share: float) -> list[float]:
    """Shares of all servos look by look, those of a start (three times the whole run's or more) left out."""
    count = min(len(one) for one in shares)
    sums = [sum(one[i] for one in shares) for i in range(count)]
    return [value for value in sums if 0 < value < 3 * share] or [share]


def first_wall(axes: Sequence[Json]) -> dict[str, Any] | None:
    """The axis with the least room above the reference policy, in multiples of where it stands. None: none in sight."""
    met = [axis for axis in axes if axis["wall"]["headroom"] is not None]
    if not met:
        return None
    first = min(met, key=lambda axis: float(axis["wall"]["headroom"]))
    return {"axis": first["axis"], "unit": first["unit"], "limit_is": first["limit_is"], **first["wall"]}
