"""Rows of the result, what they are held against, and the table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.bus.case import Case
from bench.bus.measure import Unpaced

SCHEMA = "edgevla.bus/1"
HOST_US, EFFICIENCY, EFFICIENCY_FROM_MS = 100.0, 0.90, 0.9
CPU_TIMES, WALL_TIMES = 3.0, 1.3
KEYS = (
    "protocol", "joints", "baud", "wire_ms", "hz", "wire_efficiency", "host_us_p50", "cpu_us",
    "peer", "peer_cpu_us", "peer_wall_us", "wall_us",
)  # fmt: skip
COLUMNS = (
    "", "wire ms", "Hz", "efficiency", "host us p50 / p99", "CPU us", "wall us", "peer", "its CPU, times ours",
    "its wall, times ours", "",
)  # fmt: skip


def row(case: Case, library: str | None, why_none: str, paced: Mapping[str, Any], free: Unpaced) -> dict[str, Any]:
    """One case, with its spreads and what was missed. `paced`: of our driver, and of the peer for comparison."""
    ours = paced["ours"]
    found = {
        "protocol": case.protocol,
        "joints": len(case.joints),
        "baud": case.baud,
        **{key: round(ours[key], 4) for key in ("wire_ms", "hz", "wire_efficiency", "host_us_p50")},
        "cpu_us": round(free.us["ours/cpu"], 2),
        "peer": library,
        "peer_cpu_us": None if library is None else round(free.us["peer/cpu"], 2),
        "peer_wall_us": None if library is None else round(free.us["peer"], 2),
        "wall_us": round(free.us["ours"], 2),
        "why_no_peer": why_none,
        "data_baud": case.data_baud,
        "paced": dict(paced),
        "unpaced": asdict(free),
    }
    return {**found, "missed": missed(found)}


def missed(found: Mapping[str, Any]) -> list[str]:
    """The targets that a row does not keep. A ratio keeps its target where its whole interval does."""
    ratios = found["unpaced"]["ratios"]
    limits = [
        ("host share", found["host_us_p50"] <= HOST_US, f"{found['host_us_p50']:.0f} us p50 > {HOST_US:g}"),
        (
            "efficiency",
            found["wire_ms"] < EFFICIENCY_FROM_MS or found["wire_efficiency"] >= EFFICIENCY,
            f"{found['wire_efficiency']:.3f} < {EFFICIENCY:g}",
        ),
    ]
    for name, goal in (("cpu", CPU_TIMES), ("wall", WALL_TIMES)):
        if name in ratios:
            low = ratios[name]["low"]
            limits.append((f"{name} of the peer", low >= goal, f"{low:.2f} times ours at least, not {goal:g}"))
    return [f"{name}: {got}" for name, holds, got in limits if not holds]


def short(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """bench/results/bus.json: exactly KEYS of each row."""
    return [{key: row[key] for key in KEYS} for row in rows]


def table(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """COLUMNS of each row."""
    return [
        (
            f"{row['protocol']} x{row['joints']}",
            f"{row['wire_ms']:.3f}",
            f"{row['hz']:.0f}",
            f"{row['wire_efficiency']:.3f}",
            f"{row['host_us_p50']:.0f} / {row['paced']['ours']['host_us_p99']:.0f}",
            f"{row['cpu_us']:.1f}",
            f"{row['wall_us']:.1f}",
            row["peer"] or f"none: {row['why_no_peer']}",
            _times(row, "cpu"),
            _times(row, "wall"),
            "missed: " + "; ".join(row["missed"]) if row["missed"] else "kept",
        )
        for row in rows
    ]


def _times(row: Mapping[str, Any], name: str) -> str:
    ratio = row["unpaced"]["ratios"].get(name)
    return "-" if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
