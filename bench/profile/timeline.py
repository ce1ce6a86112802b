"""One run on one time line: frames, inferences with their operators, servo steps, bus. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.profile.graph_runs import GraphRun
from bench.profile.trace_events import Point, Trace, Track
from edgevla.control.exchange import Status
from edgevla.control.ladder import MOVABLE, Phase

CAMERA, POLICY, SERVO = 1, 2, 3
INFERENCES, REQUESTS = Track(POLICY, 1), Track(POLICY, 2)
STEPS, BUS, CHUNKS = Track(SERVO, 1), Track(SERVO, 2), Track(SERVO, 3)
_MOVABLE = frozenset(MOVABLE)


@dataclass(frozen=True)
class Traced:
    """One run: the rows of its processes, the runs of its graphs, d in ticks, n servo steps a tick."""

    ticks: NDArray[Any]
    inferences: NDArray[Any]
    captures: Mapping[str, NDArray[Any]]
    graphs: Sequence[GraphRun]
    delay: int


def timeline(run: Traced) -> Trace:
    """Every process on a track of its own, and an arrow from each frame to the first command of its chunk."""
    trace = Trace()
    _names(trace, run)
    frames: dict[int, Point] = {}  # by stamp
    for place, rows in enumerate(run.captures.values(), 1):
        frames |= _captured(trace, Track(CAMERA, place), rows)
    moving = run.ticks[np.isin(run.ticks["phase"], sorted(_MOVABLE))]
    _steps(trace, run.ticks)
    _exchanges(trace, acks(run.ticks))
    deadlines, acted = first_rows(moving, "tick"), first_rows(moving, "chunk")
    for row in run.inferences:
        _inferred(trace, row, [one for one in run.graphs if _within(one, row)])
        _arrows(trace, frames, row, deadlines.get(int(row["tick"]) + run.delay), acted.get(int(row["tick"])))
    return trace


def begun_ns(inference: Any) -> int:
    """When the policy process began with it."""
    return int(inference["done_ns"]) - int(inference["infer_ns"])


def frame_ns(inference: Any) -> int:
    """When its oldest frame was captured."""
    return begun_ns(inference) - int(inference["frame_age_ns"])


def first_rows(ticks: NDArray[Any], column: str) -> dict[int, Any]:
    """The first servo step at which the column held each value, but -1."""
    values, places = np.unique(ticks[column], return_index=True)
    return {int(value): ticks[place] for value, place in zip(values, places, strict=True) if value >= 0}


def acks(ticks: NDArray[Any]) -> list[tuple[int, int]]:
    """(command written, stamp of the state that answers it) in ns, by the numbers that both carry."""
    written: dict[int, int] = {}
    found: dict[int, tuple[int, int]] = {}
    for row in ticks:
        if row["write_ns"]:
            written[int(row["sent_seq"])] = int(row["write_ns"])
        sent_ns = written.get(int(row["state_seq"]))
        if sent_ns is not None and row["state_stamp_ns"] >= sent_ns:
            found[sent_ns] = (sent_ns, int(row["state_stamp_ns"]))
    return list(found.values())


def _names(trace: Trace, run: Traced) -> None:
    if run.captures:
        trace.process(CAMERA, "cameras")
    for place, name in enumerate(run.captures, 1):
        trace.thread(Track(CAMERA, place), f"capture {name}")
    trace.process(POLICY, "policy")
    trace.thread(INFERENCES, "inference")
    trace.thread(REQUESTS, "request handed over")
    trace.process(SERVO, "servo")
    trace.thread(STEPS, "servo step")
    trace.thread(BUS, "bus exchange")
    trace.thread(CHUNKS, "chunk waits for its tick")


def _captured(trace: Trace, track: Track, rows: NDArray[Any]) -> dict[int, Point]:
    """Slices of the frames, and where the slice of each begins. One that overlaps the frame before is cut there."""
    points: dict[int, Point] = {}
    before_ns = 0
    for row in rows:
        stamp_ns, read_ns, visible_ns = (int(row[key]) for key in ("stamp_ns", "read_ns", "visible_ns"))
        begin_ns = max(stamp_ns, before_ns)
        told = {"sequence": int(row["sequence"]), "captured_us": stamp_ns / 1e3}
        trace.slice(track, "frame", "capture", begin_ns, visible_ns, told)
        trace.slice(track, "publish", "capture", min(max(read_ns, begin_ns), visible_ns), visible_ns)
        points[stamp_ns], before_ns = (track, begin_ns), visible_ns
    return points


def _exchanges(trace: Trace, found: Sequence[tuple[int, int]]) -> None:
    """First byte to reply; an answer that came after the next command is shown from that one on."""
    before_ns = 0
    for begin_ns, end_ns in found:
        if end_ns > max(begin_ns, before_ns):
            trace.slice(
                BUS, "exchange", "bus", max(begin_ns, before_ns), end_ns, {"took_us": (end_ns - begin_ns) / 1e3}
            )
            before_ns = end_ns


def _steps(trace: Trace, ticks: NDArray[Any]) -> None:
    """A step lasts from its wake to its write; one without a command to the look at the answers."""
    for row in ticks:
        wake_ns, send_ns, write_ns = (int(row[key]) for key in ("wake_ns", "send_ns", "write_ns"))
        end_ns = max(write_ns, send_ns, wake_ns, int(row["look_ns"]))
        told = {"step": int(row["step"]), "tick": int(row["tick"]), "chunk": int(row["chunk"])}
        name = Phase(int(row["phase"])).name.lower()
        trace.slice(
            STEPS, name, "servo", wake_ns, end_ns, {**told, "late_us": (wake_ns - int(row["deadline_ns"])) / 1e3}
        )
        if write_ns and wake_ns <= send_ns <= write_ns:
            trace.slice(STEPS, "release, interpolate, limit", "servo", wake_ns, send_ns)
            trace.slice(STEPS, "send", "servo", send_ns, write_ns)
        trace.counter(SERVO, "wake after deadline, us", wake_ns, {"us": (wake_ns - int(row["deadline_ns"])) / 1e3})


def _within(one: GraphRun, row: Any) -> bool:
    return bool(begun_ns(row) <= one.begin_ns and one.end_ns <= row["done_ns"])


def _inferred(trace: Trace, row: Any, graphs: Sequence[GraphRun]) -> None:
    begin_ns, end_ns, status = begun_ns(row), int(row["done_ns"]), Status(int(row["status"])).name.lower()
    asked_ns = min(int(row["asked_ns"]), begin_ns)
    trace.slice(REQUESTS, "request handed over", "policy", asked_ns, begin_ns, {"tick": int(row["tick"])})
    trace.slice(INFERENCES, "inference", "policy", begin_ns, end_ns, {"tick": int(row["tick"]), "status": status})
    if not graphs:
        return
    ordered = sorted(graphs, key=lambda one: one.begin_ns)
    trace.slice(INFERENCES, "preprocess", "policy", begin_ns, ordered[0].begin_ns)
    for one in ordered:
        trace.slice(INFERENCES, f"graph:{one.graph}", "graph", one.begin_ns, one.end_ns)
        for ran in one.operators:
            trace.slice(INFERENCES, ran.op, "operator", ran.begin_ns, ran.end_ns, {"node": ran.name})
    trace.slice(INFERENCES, "postprocess", "policy", ordered[-1].end_ns, end_ns)


def _arrows(trace: Trace, frames: Mapping[int, Point], row: Any, due: Any, first: Any) -> None:
    """Frame -> inference -> release -> first command, as far as it came. `due`: the first step of tick k + d;
    `first`: the first step that the chunk acted in."""
    tick, done_ns = int(row["tick"]), int(row["done_ns"])
    points: list[Point] = []
    if row["frame_age_ns"] >= 0 and (frame := frames.get(frame_ns(row))) is not None:
        points.append(frame)
    points.append((INFERENCES, begun_ns(row)))
    if due is not None and row["status"] == Status.OK and done_ns <= due["deadline_ns"]:
        trace.slice(CHUNKS, "chunk waits", "release", done_ns, int(due["deadline_ns"]), {"tick": tick})
        points.append((CHUNKS, done_ns))
    if first is not None and first["write_ns"]:
        trace.instant(STEPS, f"first command of chunk {tick}", "release", int(first["write_ns"]))
        points.append((STEPS, int(first["wake_ns"])))
    if len(points) > 1:
        trace.flow(tick + 1, "frame to command", points)
