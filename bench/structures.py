"""The block of docs/structures.md, from the committed studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevla.telemetry.host import host_line
from edgevla.telemetry.stats import wilson_interval
from export.study.recipes.report import COLUMNS as RECIPE_COLUMNS
from export.study.recipes.report import table as recipe_table
from export.study.report import COLUMNS, table

REFERENCE = "one-step continuous: the reference policy of the demo, distilled"


def reference_row(demo: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The policy of `make demo` as a row, where the demo was run: another training, other episodes, distilled."""
    if not demo.get("success"):
        return []
    model, pairs, share = demo["models"]["student_int8"], demo["success"]["pairs"], demo["success"]["student_int8"]
    low, high = wilson_interval(round(share * pairs), pairs)
    return [{
        "structure": REFERENCE, "head": "flow-one-pass", "history": 1, "tasks": "plain",
        "parameters": model["parameters"], "success": share, "success_ci": [low, high], "seeds": 1, "pairs": pairs,
        "p50_ms": model["p50_ms"], "p99_ms": model["p99_ms"],
    }]  # fmt: skip


def structures_block(result: Mapping[str, Any], demo: Mapping[str, Any], host: str) -> str:
    """The table of cells, what may be concluded, and how the cost grows with the window."""
    if not result.get("rows"):
        return "not measured"
    frames = result["rows"][0]["frames"]
    trained_h, played_h = (sum(cell[key] for cell in result["raw"]) / 3600 for key in ("train_s", "played_s"))
    cost = f"{trained_h:.1f} core-hours of training, {played_h:.1f} of packing and playing"
    growth = [
        (row["structure"], f"{row['window']}", f"{row['p50_ms']:.2f}", f"{row['memory_bytes'] / 1e3:,.0f}")
        for row in result["growth"]
    ]
    parts = [
        f"Host: {host}. {frames:,} encoder frames a cell; {cost}. Success is that of int8 in the loop.",
        _lines(COLUMNS, table([*result["rows"], *reference_row(demo)])),
        " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in result["conclusions"]) + _elsewhere(demo),
        "Cost against the window, random weights of width 256, a full window, one core:",
        _lines(("structure", "window", "p50 ms", "memory between two ticks, kB"), growth),
    ]
    return "\n\n".join(parts)


def _elsewhere(demo: Mapping[str, Any]) -> str:
    """Where the last row was measured."""
    return f" The last row is of the demo, on its host: {host_line(demo['host'])}." if reference_row(demo) else ""


def recipes_block(result: Mapping[str, Any], host: str) -> str:
    """What another robot's data is worth."""
    if not result.get("rows"):
        return "Recipes: not measured"
    parts = [
        f"Recipes: {result['what']}. Host: {host}.",
        _lines(RECIPE_COLUMNS, recipe_table(result["rows"])),
        " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in result["conclusions"]),
    ]
    return "\n\n".join(parts)


def _lines(head: Any, body: Any) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
