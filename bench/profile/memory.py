"""What the processes of a run hold: resident peaks, and the arena of each graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.roofline.run import Graph
from edgevla.bundle.reader import Bundle

OWN = "ONNX Runtime's statistics: what its allocator took from the system for weights and activations, largest seen"
ABSENT = "this ONNX Runtime does not tell what its allocator holds"


def figures(peaks: Mapping[str, int], graphs: Sequence[Graph], bundle: Bundle) -> dict[str, Any]:
    """Bytes. `peak_rss_bytes` counts a page that two processes share twice: it is an upper bound of their sum."""
    per_stage = {f"graph:{graph.name}": _of_graph(graph, bundle) for graph in graphs}
    arenas = [stage["arena_bytes"] for stage in per_stage.values()]
    known = bool(arenas) and all(size is not None for size in arenas)
    return {
        "peak_rss_bytes": sum(peaks.values()),
        "processes": dict(sorted(peaks.items(), key=lambda item: -item[1])),
        "arena_bytes": sum(arenas) if known else None,
        "arena_by": OWN if known else ABSENT,
        "per_stage": per_stage,
    }


def _of_graph(graph: Graph, bundle: Bundle) -> dict[str, int | None]:
    arena = graph.one_pass.arena
    return {
        "file_bytes": len(bundle.model(graph.name)),
        "arena_bytes": None if arena is None else arena.held_bytes,
        "in_use_bytes": None if arena is None else arena.in_use_bytes,
    }
