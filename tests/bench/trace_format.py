"""What the Trace Event format asks of a file, rule by rule: the fields that its document names, and how slices nest."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

NEEDED = {
    "X": {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"},
    "i": {"name", "cat", "ph", "ts", "pid", "tid", "s"},
    "C": {"name", "cat", "ph", "ts", "pid", "args"},
    "M": {"name", "ph", "pid", "tid", "args"},
    "s": {"name", "cat", "ph", "ts", "pid", "tid", "id"},
    "t": {"name", "cat", "ph", "ts", "pid", "tid", "id"},
    "f": {"name", "cat", "ph", "ts", "pid", "tid", "id", "bp"},
}
_ROUNDING_US = 0.002


def broken_rules(document: dict[str, Any]) -> list[str]:
    """What is wrong with a trace; empty when a viewer shows all of it as it was meant."""
    events = document.get("traceEvents")
    if not isinstance(events, list) or document.get("displayTimeUnit") not in ("ms", "ns"):
        return ["no JSON object format: traceEvents, displayTimeUnit"]
    found = [wrong for event in events for wrong in _fields(event)]
    if found:
        return found
    return [*_unnamed(events), *_crossing(events), *_loose_flows(events)]


def _fields(event: dict[str, Any]) -> list[str]:
    kind = event.get("ph")
    if kind not in NEEDED:
        return [f"unknown phase {kind!r}"]
    wrong = [f"{kind}: no {name}" for name in NEEDED[kind] - set(event)]
    for name in {"ts", "dur"} & set(event):
        if not isinstance(event[name], (int, float)) or event[name] < 0:
            wrong.append(f"{kind}: {name} {event[name]!r}")
    for name in {"pid", "tid"} & set(event):
        if not isinstance(event[name], int):
            wrong.append(f"{kind}: {name} {event[name]!r}")
    if kind == "C" and not all(isinstance(value, (int, float)) for value in event.get("args", {}).values()):
        wrong.append("C: a counter that is no number")
    return wrong


def _unnamed(events: list[dict[str, Any]]) -> list[str]:
    processes = {e["pid"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]) for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    return [
        *{f"process {e['pid']} has no name" for e in slices if e["pid"] not in processes},
        *{f"thread {e['tid']} of {e['pid']} has no name" for e in slices if (e["pid"], e["tid"]) not in threads},
    ]


def _crossing(events: list[dict[str, Any]]) -> list[str]:
    """Slices of a thread lie one inside the other or apart."""
    wrong, tracks = [], _by_track(events)
    for slices in tracks.values():
        open_: list[dict[str, Any]] = []
        for one in slices:
            while open_ and _end(open_[-1]) <= one["ts"] + _ROUNDING_US:
                open_.pop()
            if open_ and _end(one) > _end(open_[-1]) + _ROUNDING_US:
                wrong.append(f"{one['name']} at {one['ts']} crosses the end of {open_[-1]['name']}")
            open_.append(one)
    return wrong


def _loose_flows(events: list[dict[str, Any]]) -> list[str]:
    """A flow has one start and one end, its times do not run back, and each of its points lies in a slice."""
    wrong, flows, tracks = [], defaultdict(list), _by_track(events)
    for event in events:
        if event["ph"] in "stf":
            flows[event["id"]].append(event)
    for number, points in flows.items():
        kinds = [point["ph"] for point in points]
        if sorted(kinds, key="stf".index) != ["s", *["t"] * (len(kinds) - 2), "f"]:
            wrong.append(f"flow {number} is {''.join(kinds)}")
        for point in points:
            slices = tracks[(point["pid"], point["tid"])]
            if not any(s["ts"] - _ROUNDING_US <= point["ts"] <= _end(s) + _ROUNDING_US for s in slices):
                wrong.append(f"flow {number}: {point['ph']} at {point['ts']} is in no slice")
    return wrong


def _by_track(events: list[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[(event["pid"], event["tid"])].append(event)
    return {track: sorted(slices, key=lambda e: (e["ts"], -e["dur"])) for track, slices in tracks.items()}


def _end(event: dict[str, Any]) -> float:
    return float(event["ts"] + event["dur"])
