"""Why a run stopped, in one line, from its record alone. Pure.

The causes are tried from the one nearest to the arm outwards: a device that stopped itself, too much effort, a dead
line, a servo that is gone, an operator, a chunk that ran out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.control.machine import Order
from edgevla.flight.meta import cameras_in
from edgevla.flight.reader import Record, Rows, cameras_of
from firmware_bridge.arm import Fault, Mode

_SILENT_NS = 400_000_000  # ns without a state at the end of a record: the line is dead


def explain_stop(record: Record) -> str:
    """One line."""
    ticks = record.ticks
    if len(ticks) == 0:
        return "nothing was flown: the record holds no tick"
    for cause in (_device, _effort, _line, _servo, _operator, _ran_out):
        text = cause(record)
        if text:
            return text
    return f"no stop: the record ends at tick {int(ticks['tick'][-1])} in {_phase(ticks[-1])}"


def stop_row(record: Record) -> int | None:
    """Row at which the last latched stop began; None where the record does not end latched."""
    latched = record.ticks["phase"] >= Phase.LATCHED
    if len(latched) == 0 or not latched[-1]:
        return None
    moving = np.flatnonzero(~latched)
    return int(moving[-1]) + 1 if len(moving) else 0


def _head(record: Record) -> str:
    row = stop_row(record)
    return f"latched at tick {int(record.ticks['tick'][row])}: " if row is not None else "not latched: "


def _phase(row: Rows) -> str:
    return Phase(int(row["phase"])).name


def _device(record: Record) -> str:
    """The arm's own stop, except the one that answers an order of ours."""
    stopped = np.flatnonzero(_own_stop(record))
    if len(stopped) == 0:
        return ""
    at = int(stopped[0])
    row = record.ticks[at]
    faults = int(row["device_faults"])
    names = [fault.name.lower() for fault in Fault if fault and faults & fault and fault.name] or [f"fault {faults}"]
    text = f"the arm stopped itself at tick {int(row['tick'])} ({', '.join(names)})"
    return f"{_head(record)}{text}{_gap(record, at) if faults & Fault.WATCHDOG else ''}"


def _own_stop(record: Record) -> Any:
    ticks = record.ticks
    ours = (ticks["device_faults"] == Fault.STOP) | (ticks["device_faults"] == 0) & (ticks["phase"] >= Phase.LATCHED)
    return (ticks["device_mode"] == Mode.STOPPED) & ~ours


def _gap(record: Record, at: int) -> str:
    """What kept commands from the arm before row `at`."""
    before = record.ticks[: at + 1]
    written = before["write_ns"][before["write_ns"] > 0]
    if len(written) < 2:
        return ": no command was ever written"
    gaps = np.diff(written)
    widest = int(np.argmax(gaps))
    skipped, late = int(before["skipped"][-50:].sum()), int(before["late"][-50:].sum())
    why = [f"the servo overslept {skipped} periods"] if skipped else []
    why += [f"{late} commands had expired and were not written"] if late else []
    refused = sum(int(dict(event.get("link", {})).get("refused", 0)) for event in record.events if "link" in event)
    why += [f"the arm refused {refused} of them as too late or wrong"] if refused and not why else []
    return f": {gaps[widest] / 1e6:.0f} ms at most between two commands" + (f", {' and '.join(why)}" if why else "")


def _effort(record: Record) -> str:
    """A protective stop: the servo's own sentence names the channel, its limit and the value."""
    if (_last(record, "latched") or {}).get("reason") != "protective":
        return ""
    end = _last(record, "end") or {}
    return f"{_head(record)}protective stop: {end.get('message') or 'effort or following error beyond its limit'}"


def _line(record: Record) -> str:
    event = _last(record, "fault")
    if event is None:
        event = next((e for e in record.events if e.get("event") == "end" and e.get("reason") == "fault"), None)
    ticks = record.ticks
    silent_ns = int(ticks["wake_ns"][-1] - ticks["state_stamp_ns"][-1])
    armed = bool(ticks["phase"][-1] != Phase.DISARMED)
    if event is None and (silent_ns < _SILENT_NS or not armed or not ticks["state_stamp_ns"].any()):
        return ""
    message = str(event.get("message", "")).partition("\n")[0] if event else ""
    last = f"the last joint state is {silent_ns / 1e6:.0f} ms older than the last tick {int(ticks['tick'][-1])}"
    return f"{_head(record)}bus: {message or 'no reply from the arm'}; {last}"


def _servo(record: Record) -> str:
    """The servo process died or slept: the record ends while the arm was armed."""
    said = [e for e in record.events if e.get("child") == "servo" and e.get("event") in ("exited", "error")]
    row = record.ticks[-1]
    moving = Phase.DISARMED < row["phase"] < Phase.LATCHED
    if not moving or not said:
        return ""
    what = said[0].get("message") or f"exit code {said[0].get('code')}"
    return f"not latched: the servo process ended at tick {int(row['tick'])} in {_phase(row)}: {what}"


def _operator(record: Record) -> str:
    row = stop_row(record)
    ticks = record.ticks if row is None else record.ticks[: row + 1]
    armed = np.flatnonzero(ticks["phase"] == Phase.START)
    begun = armed[np.flatnonzero(np.diff(armed, prepend=-2) > 1)] if len(armed) else armed  # first step of each arming
    since = int(begun[-1]) if len(begun) else 0
    asked = np.flatnonzero(np.isin(ticks["order"][since:], (Order.STOP, Order.QUIT)))
    if len(asked) == 0:
        return ""
    first = ticks[since + int(asked[0])]
    took = ""
    if row is not None:
        took = f", at rest and latched {(record.ticks['deadline_ns'][row] - first['deadline_ns']) / 1e6:.0f} ms later"
    if (_last(record, "latched") or {}).get("reason") == "duration":
        return f"{_head(record)}the duration was over at tick {int(first['tick'])}{took}"
    told = _last(record, "stop-asked") or {}
    who = str(told.get("by") or told.get("reason") or "operator")
    return f"{_head(record)}stop asked for by {who} at tick {int(first['tick'])}{took}"


def _ran_out(record: Record) -> str:
    row = stop_row(record)
    if row is None:
        return ""
    ticks = record.ticks
    before = ticks[: row + 1]
    stop = int(ticks["tick"][row])
    tracked = np.flatnonzero(before["phase"] == Phase.TRACK)
    chunk = int(before["chunk"][tracked[-1]]) if len(tracked) else -1  # a latched arm has none any more
    armed = np.flatnonzero(before["phase"] == Phase.START)
    if len(tracked) == 0 or (len(armed) and armed[-1] > tracked[-1]):
        began = int(before["tick"][armed[0]]) if len(armed) else int(before["tick"][0])
        text = f"no chunk was released after arming at tick {began}"
        chunk = began - 1
    else:
        text = f"chunk of tick {chunk} ran out"
    lost = _lost(record, chunk, stop)
    skipped = int(before["skipped"][before["tick"] > chunk].sum())
    slept = f"; the servo overslept {skipped} periods" if skipped else ""
    return f"latched at tick {stop}: {text}{'; ' + lost if lost else ''}{slept}{_beside(record, chunk, stop)}"


def _lost(record: Record, chunk: int, stop: int) -> str:
    """Inferences after the chunk in force, with the cause of each; neighbours of one cause together."""
    ticks = record.ticks
    asked = ticks["tick"][(ticks["started"] != 0) & (ticks["tick"] > chunk) & (ticks["tick"] <= stop)]
    causes: list[tuple[str, list[int]]] = []
    for tick in asked:
        why = _cause(record, int(tick))
        if not why:
            continue
        if causes and causes[-1][0].split(":")[0] == why.split(":")[0]:
            causes[-1] = (why, [*causes[-1][1], int(tick)])
        else:
            causes.append((why, [int(tick)]))
    parts = [f"{', '.join(map(str, numbers))} lost ({why})" for why, numbers in causes]
    return f"inference{'s' if sum(len(n) for _, n in causes) > 1 else ''} {', '.join(parts)}" if parts else ""


def _cause(record: Record, tick: int) -> str:
    """Why the inference of this tick gave no chunk; '' where it did."""
    rows = record.inferences[record.inferences["tick"] == tick] if len(record.inferences) else record.inferences
    if len(rows) == 0:
        ended = any(e.get("event") == "exited" and e.get("child") == "policy" for e in record.events)
        restarted = _last(record, "policy-restarted") or ({"why": "ended"} if ended else None)
        return f"no answer: the policy process {restarted.get('why', 'was restarted')}" if restarted else "no answer"
    row = rows[-1]
    status = Status(int(row["status"]))
    if status is Status.OK:
        late_ns = int(row["done_ns"]) - _release_ns(record, tick)
        return f"late: {late_ns / 1e6:.1f} ms after its release" if late_ns > 0 else ""
    details: dict[Status, Callable[[], str]] = {
        Status.OLD_FRAME: lambda: _oldest(record, tick),
        Status.NO_FRAME: lambda: f"camera {_absent(record, tick)} has delivered none",
        Status.OLD_STATE: lambda: _state_age(int(row["state_age_ns"])),
        Status.NOT_FINITE: lambda: "the policy answered NaN or infinity",
        Status.RESTARTED: lambda: "the policy process was started again",
    }
    detail = details.get(status)
    return f"{status.name.lower()}: {detail()}" if detail else status.name.lower()


def _state_age(age_ns: int) -> str:
    return "no joint state since arming" if age_ns < 0 else f"joint state {age_ns / 1e9:.2f} s old"


def _release_ns(record: Record, tick: int) -> int:
    row = record.ticks[0]
    period_ns = round(float(record.meta["period_s"]) * 1e9)
    delay = int(record.meta["schedule"]["delay"])
    return int(row["deadline_ns"]) + (tick + delay - int(row["tick"])) * period_ns


def _oldest(record: Record, tick: int) -> str:
    rows = record.observations[record.observations["tick"] == tick]
    if len(rows) == 0:
        (age_ns,) = record.inferences["frame_age_ns"][record.inferences["tick"] == tick][-1:]
        return f"a frame {age_ns / 1e9:.2f} s old"
    row = rows[-1]
    ages = {name: int(row["begun_ns"]) - int(row[f"camera:{name}"]["stamp_ns"]) for name in cameras_of(row)}
    name = max(ages, key=lambda camera: ages[camera])
    return f"camera `{name}` {ages[name] / 1e9:.2f} s old"


def _absent(record: Record, tick: int) -> str:
    rows = record.observations[record.observations["tick"] == tick]
    there = cameras_of(rows[-1]) if len(rows) else []
    return ", ".join(f"`{name}`" for name in cameras_in(record.meta) if name not in there) or "unknown"


def _beside(record: Record, chunk: int, stop: int) -> str:
    """A camera stall that the supervisor saw in that time."""
    event = _last(record, "camera-stalled")
    return f"; camera `{event.get('name')}` had stalled" if event is not None else ""


def _last(record: Record, name: str) -> dict[str, Any] | None:
    return next((event for event in reversed(record.events) if event.get("event") == name), None)
