"""Every operator of a chunk with its time, bytes and multiply-adds; each graph under the roofline. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.roofline.classes import UNIT, Operator, Peaks, class_of, rows
from bench.roofline.run import Graph, Roofline


def operator_rows(graphs: Sequence[Graph]) -> list[dict[str, Any]]:
    """One row an operator of one chunk, the longest first. `share`: of the sum of all operators."""
    total_us = sum(operator.us for graph in graphs for operator in graph.operators) or 1.0
    found = [_row(graph, operator, total_us) for graph in graphs for operator in graph.operators]
    return sorted(found, key=lambda row: -row["total_us"])


def _row(graph: Graph, operator: Operator, total_us: float) -> dict[str, Any]:
    return {
        "stage": f"graph:{graph.name}",
        "name": operator.name,
        "origin": graph.one_pass.origins.get(operator.name),  # node of the bundle's graph; None: ONNX Runtime's own
        "type": operator.op,
        "class": class_of(operator.op, operator.constant_weight),
        "calls": graph.times,
        "total_us": round(operator.us, 3),
        "share": round(operator.us / total_us, 5),
        "bytes": operator.bytes,
        "macs": operator.multiply_adds,
    }


def position(name: str, operators: Sequence[Operator], wall_ms: float, peaks: Peaks) -> dict[str, Any]:
    """Where something lies under the roofline.

    An operation is a multiplication or an addition. The ceiling is the lower of two: the products' peak, weighed by
    the operations of each type, and the copy's speed times the operations per byte moved.
    """
    operations = sum(2 * operator.multiply_adds for operator in operators)
    moved = sum(operator.bytes for operator in operators)
    ideal_s = sum(_compute_s(operator, peaks) for operator in operators)
    memory_s = moved / peaks.copy_gbs / 1e9
    floor_s = max(ideal_s, memory_s)
    wall_s = wall_ms / 1e3
    return {
        "name": name,
        "wall_us": round(wall_ms * 1e3, 3),
        "operators": len(operators),
        "operations": operations,
        "bytes": moved,
        "intensity": round(operations / moved, 4) if moved else None,  # operations a byte
        "reached_gops": round(operations / wall_s / 1e9, 4) if wall_s else None,
        "ceiling_gops": round(operations / floor_s / 1e9, 4) if operations and floor_s else None,
        "floor_us": round(floor_s * 1e6, 3),
        "share_of_ceiling": round(floor_s / wall_s, 5) if wall_s else None,
        "bound": "compute" if ideal_s >= memory_s else "memory",
    }


def _compute_s(operator: Operator, peaks: Peaks) -> float:
    unit = UNIT.get(class_of(operator.op, operator.constant_weight))
    return 2 * operator.multiply_adds / peaks.gops(unit) / 1e9 if unit else 0.0


def roofline_figures(found: Roofline) -> dict[str, Any]:
    """Peaks of this run, the position of each graph and each class of operators in it, and the classes of a chunk."""
    peaks = found.peaks
    by_graph = {
        graph.name: [row.as_dict() for row in rows(graph.operators, graph.wall_ms, peaks)] for graph in found.graphs
    }
    return {
        "peaks": asdict(peaks),
        "graphs": [position(graph.name, graph.operators, graph.wall_ms, peaks) for graph in found.graphs],
        "classes_by_graph": by_graph,
        "classes": [row.as_dict() for row in found.rows],
        "wall_ms": round(found.wall_ms, 5),
        "rounds": found.rounds,
        "recorder_us": round(found.recorder_us, 3),
        "threads": 1,
    }
