"""From the rows of one run to the latency of each stage, in ns and in the order in which they were due. Pure.

Open loop: the schedule says when a frame, a servo step or an inference was due, and what was passed over while another
one dragged on counts from its own due time. Nothing is left out because the loop was too busy to begin it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.exchange import Status
from edgevla.control.machine import Order
from edgevla.control.plan import RunPlan
from edgevla.control.result import COMMANDING
from edgevla.telemetry.rows import GRAPHS

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_REPLY_ROWS = 5  # servo steps within which the reply to a command is looked for
BEFORE_GRAPHS = ("capture", "age", "preprocess")
AFTER_GRAPHS = ("postprocess", "policy", "reply", "release", "wake", "bus", "ack", "sensor-to-bus")
REPORTED = frozenset({"release"})  # slack that was left: more of it is better, so it has no limit


@dataclass(frozen=True)
class Rows:
    """What one run left, and the time in which it counts: after the warm-up, until it was stopped. Times in ns."""

    ticks: NDArray[Any]
    inferences: NDArray[Any]
    captures: Mapping[str, NDArray[Any]]
    plan: RunPlan
    begin_ns: int
    end_ns: int

    @property
    def step_ns(self) -> int:
        return round(self.plan.period_s * 1e9) // self.plan.target.servo_ratio

    @property
    def period_ns(self) -> int:
        return self.step_ns * self.plan.target.servo_ratio

    def deadline_ns(self, tick: Any) -> Any:
        """Of control ticks."""
        first = self.ticks[0]
        return int(first["deadline_ns"]) - int(first["step"]) * self.step_ns + np.asarray(tick) * self.period_ns


def stage_names(graphs: Sequence[str]) -> tuple[str, ...]:
    """All stages of a policy with those graphs, in order. Graphs behind the last place of a row share it."""
    shown = [*graphs[: GRAPHS - 1], "+".join(graphs[GRAPHS - 1 :])] if len(graphs) > GRAPHS else list(graphs)
    return (*BEFORE_GRAPHS, *(f"graph:{name}" for name in shown or ["policy"]), *AFTER_GRAPHS)


def rows_of(
    ticks: NDArray[Any],
    inferences: NDArray[Any],
    captures: Mapping[str, NDArray[Any]],
    plan: RunPlan,
    warm_up_s: float,
) -> Rows | None:
    """The rows of a run in which the arm could move after its warm-up; None of one that never came so far."""
    ticks = ticks[np.isin(ticks["phase"], COMMANDING)]
    if not len(ticks):
        return None
    begin_ns = int(ticks["deadline_ns"][0]) + round(warm_up_s * 1e9)
    stops = ticks["deadline_ns"][ticks["order"] >= Order.STOP]
    end_ns = int(stops[0]) if len(stops) else int(ticks["deadline_ns"][-1]) + 1
    ticks = ticks[(ticks["deadline_ns"] >= begin_ns) & (ticks["deadline_ns"] < end_ns)]
    if not len(ticks):
        return None
    asked = inferences[(inferences["tick"] >= ticks["tick"][0]) & (inferences["tick"] <= ticks["tick"][-1])]
    shown = {n: r[(r["stamp_ns"] >= begin_ns) & (r["stamp_ns"] < end_ns)] for n, r in captures.items()}
    return Rows(ticks, asked, shown, plan, begin_ns, end_ns)


def stages_of(rows: Rows, graphs: Sequence[str]) -> dict[str, Float64]:
    """ns by stage, in the order of `stage_names`."""
    sound = rows.inferences[rows.inferences["status"] == Status.OK]
    seen = rows.inferences[rows.inferences["frame_age_ns"] >= 0]
    names = stage_names(graphs)
    found: dict[str, Any] = {
        "capture": np.concatenate([np.zeros(0), *(capture(rows, name) for name in rows.captures)]),
        "age": seen["frame_age_ns"],
        "preprocess": sound["preprocess_ns"],
        **{name: sound["graph_ns"][:, at] for at, name in enumerate(n for n in names if n.startswith("graph:"))},
        "postprocess": sound["postprocess_ns"],
        "policy": policy(rows, sound),
        "reply": reply(rows, sound),
        "release": rows.deadline_ns(sound["tick"] + rows.plan.schedule.delay) - sound["done_ns"],
        "wake": open_loop(rows.ticks["wake_ns"] - rows.ticks["deadline_ns"], rows.ticks["skipped"], rows.step_ns),
        "bus": bus(rows),
        "ack": ack(rows),
        "sensor-to-bus": sensor_to_bus(rows, sound),
    }
    return {name: np.maximum(np.asarray(found[name], np.float64), 0.0) for name in names}


def open_loop(late_ns: Int64, skipped: NDArray[Any], step_ns: int) -> Int64:
    """Lateness of every step that was due, those included that were overslept before the ones served."""
    due = skipped.astype(np.int64) + 1
    ends = np.cumsum(due)
    back = np.repeat(ends, due) - 1 - np.arange(ends[-1] if len(ends) else 0)
    result: Int64 = np.repeat(late_ns, due) + back * step_ns
    return result


def capture(rows: Rows, camera: str) -> Int64:
    """Captured -> visible. A frame that never came, by the camera's rate, waits for the next one."""
    frames = rows.captures[camera]
    if not len(frames):
        return np.zeros(0, np.int64)
    rate_hz = next(one.rate_hz for one in rows.plan.cameras if one.name == camera)
    period_ns = round(1e9 / rate_hz)
    gaps = np.diff(frames["stamp_ns"], prepend=frames["stamp_ns"][:1])
    passed = np.maximum(0, np.rint(gaps / period_ns).astype(np.int64) - 1)
    return open_loop(frames["visible_ns"] - frames["stamp_ns"], passed, period_ns)


def policy(rows: Rows, sound: NDArray[Any]) -> Int64:
    """Re-plan tick -> chunk handed over. One that was passed over, or got no chunk, waits for the next chunk.

    Where none came any more it waited until the end, if that was a re-plan interval or more.
    """
    asked = np.unique(rows.inferences["tick"])
    if not len(asked):
        return np.zeros(0, np.int64)
    replan = rows.plan.schedule.replan
    asked = np.append(asked, max(asked[-1] + 1, int(rows.ticks["tick"][-1]) + 1))  # the end, which is not asked
    between = [np.arange(a + replan, b, replan) for a, b in itertools.pairwise(asked)]
    due = np.sort(np.concatenate([asked[:-1], *between]))
    answered = np.searchsorted(sound["tick"], due)
    waited: Int64 = np.append(sound["done_ns"], rows.end_ns)[answered] - rows.deadline_ns(due)
    return waited[(answered < len(sound)) | (waited >= replan * rows.period_ns)]


def reply(rows: Rows, sound: NDArray[Any]) -> Int64:
    """Chunk handed over -> seen by the servo: it looks once a tick."""
    seen, first = np.unique(rows.ticks["answer"], return_index=True)
    at = np.searchsorted(seen, sound["tick"])
    known = (at < len(seen)) & (seen[np.minimum(at, len(seen) - 1)] == sound["tick"])
    result: Int64 = rows.ticks["look_ns"][first[at[known]]] - sound["done_ns"][known]
    return result


def bus(rows: Rows) -> Int64:
    """Deadline -> last byte of its command written. A command that was never written waits for the next one."""
    ticks = rows.ticks
    written = np.flatnonzero(ticks["write_ns"] > 0)
    at = np.searchsorted(written, np.arange(len(ticks)))
    ends = np.append(ticks["write_ns"][written], rows.end_ns)
    return open_loop(ends[at] - ticks["deadline_ns"], ticks["skipped"], rows.step_ns)


def ack(rows: Rows) -> Int64:
    """Command written -> stamp of the reply to it; where that never came, of the first later one.

    A step that waits for its own reply (each re-plan tick) takes the reply to the command before on the way, and its
    row shows the newer of the two: the one before is no sample, as its stamp is known to no row.
    """
    ticks = rows.ticks
    count = len(ticks) - _REPLY_ROWS
    if count <= 0:
        return np.zeros(0, np.int64)
    heard = np.append(np.maximum.accumulate(ticks["state_stamp_ns"]), rows.end_ns)
    stamps = heard[np.minimum(np.searchsorted(heard[:-1], ticks["write_ns"][:count], side="right"), len(ticks))]
    shown = np.zeros(count, bool)
    for ahead in range(_REPLY_ROWS - 1, -1, -1):
        window = slice(ahead, ahead + count)
        answers = ticks["state_seq"][window] == ticks["sent_seq"][:count]
        stamps = np.where(answers, ticks["state_stamp_ns"][window], stamps)
        shown |= answers
    overtaken = ~shown & (ticks["state_seq"] == ticks["sent_seq"])[1 : count + 1]
    result: Int64 = (stamps - ticks["write_ns"][:count])[(ticks["write_ns"][:count] > 0) & ~overtaken]
    return result


def sensor_to_bus(rows: Rows, sound: NDArray[Any]) -> Int64:
    """Stamp of the oldest frame -> first command of that chunk, or of the first later one, written."""
    written = rows.ticks[rows.ticks["write_ns"] > 0]
    acted, first = np.unique(written["chunk"], return_index=True)
    ends = np.append(written["write_ns"][first], rows.end_ns)
    over = rows.deadline_ns(sound["tick"] + 2 * rows.plan.schedule.replan) < rows.end_ns
    due = sound[(sound["frame_age_ns"] >= 0) & over]
    stamps = due["done_ns"] - due["infer_ns"] - due["frame_age_ns"]
    result: Int64 = ends[np.searchsorted(acted, due["tick"])] - stamps
    return result
