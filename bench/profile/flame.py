"""Where the time of one re-plan interval goes, as a tree: process > stage > class of operators > operator. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.report import text
from bench.report.svg import Canvas

_ROW, _GAP = 26, 1.5
_LETTER = 7.0  # px a letter of the labels takes
_SEEN = 0.6  # px: what is narrower is left out, and its parent shows it
_COLOUR = {"policy": "c-int8", "servo": "c-teacher", "camera": "c-fp32"}
_GRAPHS = ("c-int8", "c-fp32", "c-teacher", "c-stage")
_DEPTH = ("f0", "f1", "f2", "f3", "f4")


@dataclass(frozen=True)
class Node:
    """One bar. `us`: of it and all below it."""

    name: str
    us: float
    children: tuple[Node, ...] = field(default=())


def tree(profile: Mapping[str, Any]) -> Node:
    """From a profile document. Times per re-plan interval, means of the run without a profiler.

    Operators of a graph that add up to more than its time are scaled down to it; what is left is between them.
    """
    interval = profile["interval"]
    processes = [
        _process("camera", [Node("capture", us) for us in _one(interval, "capture")]),
        _process("policy", [_stage(profile, name, us) for name, us in interval["policy"].items()]),
        _process("servo", [Node(name, us) for name, us in interval["servo"].items()]),
    ]
    kept = tuple(process for process in processes if process.us > 0)
    return Node("one re-plan interval", sum(process.us for process in kept), kept)


def graph_tree(profile: Mapping[str, Any]) -> Node:
    """The graphs of one chunk alone, as they were profiled: nothing else ran in between."""
    graphs = [_stage(profile, f"graph:{one['name']}", one["wall_us"]) for one in profile["roofline"]["graphs"]]
    return Node("graphs of one chunk", sum(graph.us for graph in graphs), tuple(graphs))


def _one(interval: Mapping[str, Any], name: str) -> list[float]:
    return [interval[name]] if interval.get(name) else []


def _process(name: str, stages: list[Node]) -> Node:
    return Node(name, sum(stage.us for stage in stages), tuple(sorted(stages, key=lambda stage: -stage.us)))


def _stage(profile: Mapping[str, Any], name: str, us: float) -> Node:
    rows = [row for row in profile["operators"] if row["stage"] == name]
    total_us = sum(row["total_us"] for row in rows)
    scale = min(1.0, us / total_us) if total_us > 0 else 0.0
    classes: dict[str, list[Node]] = {}
    for row in rows:
        label = f"{row['type']} {row['origin'] or row['name']}"
        classes.setdefault(row["class"], []).append(Node(label, row["total_us"] * scale))
    found = [
        Node(kind, sum(n.us for n in nodes), tuple(sorted(nodes, key=lambda n: -n.us)))
        for kind, nodes in classes.items()
    ]
    return Node(name, us, tuple(sorted(found, key=lambda node: -node.us)))


def draw(root: Node, width: int, cls: str) -> str:
    """The tree as SVG, the root on top; the time of a bar stands in its title."""
    canvas = Canvas(width, _ROW * _depth(root) + 4)
    _bar(canvas, root, root, 0.0, float(width), 0, "c-stage")
    return canvas.render("Flame view: process, stage, class of operators, operator; widths are time", f"flame {cls}")


def _depth(node: Node) -> int:
    return 1 + max((_depth(child) for child in node.children), default=0)


def _colour(name: str, place: int, inherited: str) -> str:
    """Of a process by its name, of a graph by its place."""
    return _GRAPHS[place % len(_GRAPHS)] if name.startswith("graph:") else _COLOUR.get(name, inherited)


def _bar(
    canvas: Canvas, root: Node, node: Node, x: float, width: float, depth: int, colour: str, place: int = 0
) -> None:
    share = node.us / root.us if root.us else 0.0
    title = f"{node.name}: {text.duration(node.us * 1e3)}, {text.percent(share)}"
    colour = _colour(node.name, place, colour) if depth == 1 else colour
    canvas.rect(x, depth * _ROW, max(0.3, width - _GAP), _ROW - _GAP, f"{colour} {_DEPTH[min(depth, 4)]}", title)
    label = _fitted(f"{node.name}  {text.duration(node.us * 1e3)}", node.name, width)
    if label:
        canvas.text(x + 5, depth * _ROW + 17, label, "t in")
    at = x
    for place, child in enumerate(node.children):
        wide = width * child.us / node.us if node.us else 0.0
        if wide >= _SEEN:
            _bar(canvas, root, child, at, wide, depth + 1, colour, place)
        at += wide


def _fitted(long: str, short: str, width: float) -> str:
    """What fits into the bar: name and time, the name, or its beginning."""
    room = int((width - 10) / _LETTER)
    if len(long) <= room:
        return long
    if len(short) <= room:
        return short
    return f"{short[: room - 1]}\N{HORIZONTAL ELLIPSIS}" if room >= 4 else ""
