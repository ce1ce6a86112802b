"""Flight records as episodes of a LeRobot dataset: what the arm was commanded, where it was and what the cameras saw.

Rows are written only where the policy drove (phase TRACK) and a command went out. An episode ends at every gap: a tick
that is missing, another phase, another instruction, a state that was not read, an observation that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.commands import Setup
from edgevla.control.ladder import Phase
from edgevla.errors import BadInput, explain
from edgevla.flight.meta import cameras_in, instructions_of, setup_of
from edgevla.flight.reader import Record, cameras_of, observations_of
from export.data.interface import Camera, Float32, Uint8
from export.data.video import Encoding
from export.data.writer import Episode, Layout, LeRobotWriter

TICK, OBSERVATION = "tick", "observation"
_LEAST_ROWS = 2  # of an episode
_PICTURE_BYTES = 512 << 20  # of one episode: a longer one is cut in two


@dataclass(frozen=True)
class Stretch:
    """Rows of one episode to be: ticks (t,), and the tick of the observation whose pictures each row shows (t,)."""

    ticks: NDArray[np.int64]
    seen: NDArray[np.int64]
    state: Float32  # (t, S)
    action: Float32  # (t, A), in the units of the bundle's channels
    instruction: str


@dataclass(frozen=True)
class Harvest:
    """What was written."""

    rows_at: str  # tick | observation
    fps: int
    replan_ticks: int
    episodes: int
    rows: int
    ticks_recorded: int
    too_short: int  # stretches of fewer than two rows


def harvest(files: Sequence[Path], records: Sequence[Record], folder: Path, rows_at: str, video: bool) -> Harvest:
    """Writes one dataset of all records. Raises BadInput: they do not belong together, or nothing moves in them."""
    layout = _layout(records[0], rows_at, video)
    for file, record in zip(files, records, strict=True):
        if (other := _layout(record, rows_at, video)) != layout:
            todo = "harvest records of one robot and one bundle at a time"
            raise BadInput(explain(f"{file} does not go with {files[0]}", _words(layout), _words(other), todo))
    plans = [stretches_of(record, rows_at) for record in records]
    if not any(plan for plan, _ in plans):
        expected, todo = "two ticks or more that the policy drove, with pictures", "record a run that moves"
        raise BadInput(explain("nothing to harvest", expected, f"none in {len(files)} record(s)", todo))
    rows = episodes = 0
    with LeRobotWriter(folder, layout) as writer:
        for record, (plan, _) in zip(records, plans, strict=True):
            for episode in _episodes(record, plan, layout):
                writer.add(episode)
                rows, episodes = rows + len(episode.state), episodes + 1
    replan = int(records[0].meta["schedule"]["replan"])
    recorded = sum(len(np.unique(record.ticks["tick"])) for record in records)
    return Harvest(rows_at, layout.fps, replan, episodes, rows, recorded, sum(short for _, short in plans))


def _layout(record: Record, rows_at: str, video: bool) -> Layout:
    meta = record.meta
    span = 1 if rows_at == TICK else int(meta["schedule"]["replan"])
    rate_hz = 1.0 / (float(meta["period_s"]) * span)
    fps = round(rate_hz)
    if fps < 1 or abs(rate_hz - fps) > 1e-6 * rate_hz:
        other = TICK if rows_at == OBSERVATION else OBSERVATION
        todo = f"take the rows at every {other}: --rows {other}"
        raise BadInput(explain("rate of the rows", "a whole number of Hz (LeRobot)", f"{rate_hz:g} Hz", todo))
    return Layout(
        fps=fps,
        state_names=tuple(item["name"] for item in meta["arm"]["state"]),
        action_names=tuple(item["name"] for item in meta["arm"]["channels"]),
        cameras=tuple(Camera(name, height, width) for name, (height, width) in cameras_in(meta).items()),
        state_units=tuple(item["unit"] for item in meta["arm"]["state"]),
        action_units=tuple(item["unit"] for item in meta["arm"]["channels"]),
        robot_type=str(meta["arm"]["name"]),
        video=video,
        encoding=Encoding(threads=1),
    )


def _words(layout: Layout) -> str:
    cameras = ", ".join(f"{c.name} {c.height} x {c.width}" for c in layout.cameras)
    numbers = f"state {', '.join(layout.state_names)}; action {', '.join(layout.action_names)}"
    return f"{layout.robot_type}, {layout.fps} Hz, {numbers}; {cameras}"


def stretches_of(record: Record, rows_at: str) -> tuple[list[Stretch], int]:
    """The episodes to be, and how many were too short to be one. Pure."""
    setup, words = setup_of(record.meta), instructions_of(record.meta, record.events)
    ticks = _last_step_of_each_tick(record.ticks)
    if len(ticks) == 0 or len(record.observations) == 0:
        return [], 0
    before = _command_before(ticks)
    good = (ticks["phase"] == Phase.TRACK) & (ticks["write_ns"] > 0) & np.isfinite(ticks["state"]).all(axis=1)
    good &= np.isfinite(before).all(axis=1)
    seen = _newest_observation(record, ticks["tick"], setup.schedule.replan)
    build = _by_tick if rows_at == TICK else _by_observation
    found = build(record, setup, ticks, before, good & (seen >= 0), seen, words)
    long_enough = [stretch for stretch in found if len(stretch.ticks) >= _LEAST_ROWS]
    return long_enough, len(found) - len(long_enough)


def _last_step_of_each_tick(rows: NDArray[Any]) -> NDArray[Any]:
    """What was commanded at the end of a tick is the tick's command."""
    return rows[np.flatnonzero(np.diff(rows["tick"], append=np.iinfo(np.int64).max))] if len(rows) else rows


def _command_before(ticks: NDArray[Any]) -> NDArray[np.float64]:
    """Set-point (t, n) of the tick before each; NaN where that tick is not there."""
    before = np.full(ticks["setpoint"].shape, np.nan)
    follows = np.flatnonzero(np.diff(ticks["tick"]) == 1) + 1
    before[follows] = ticks["setpoint"][follows - 1]
    return before


def _newest_observation(record: Record, ticks: NDArray[np.int64], replan: int) -> NDArray[np.int64]:
    """Tick of the newest observation with every picture, at or before each tick and less than r ticks old; else -1."""
    cameras = set(cameras_in(record.meta))
    whole = [int(row["tick"]) for row in record.observations if cameras <= set(cameras_of(row))]
    known = np.array(sorted(whole), np.int64)
    if len(known) == 0:
        return np.full(len(ticks), -1, np.int64)
    place = np.searchsorted(known, ticks, side="right") - 1
    newest = np.where(place >= 0, known[np.maximum(place, 0)], -1)
    return np.where((newest >= 0) & (ticks - newest < replan), newest, -1)


def _by_tick(
    record: Record, setup: Setup, ticks: NDArray[Any], before: NDArray[np.float64], good: NDArray[np.bool_],
    seen: NDArray[np.int64], words: Mapping[int, str],
) -> list[Stretch]:  # fmt: skip
    """One row per control tick: the bundle's own period."""
    actions = _in_units(setup, before, ticks["setpoint"].astype(np.float64), 1)
    return [
        Stretch(ticks["tick"][run], seen[run], ticks["state"][run], actions[run], _told(words, ticks[run[0]]))
        for run in _runs(good, ticks["tick"], ticks["instruction"], 1)
    ]


def _by_observation(
    record: Record, setup: Setup, ticks: NDArray[Any], before: NDArray[np.float64], good: NDArray[np.bool_],
    seen: NDArray[np.int64], words: Mapping[int, str],
) -> list[Stretch]:  # fmt: skip
    """One row per observation: state and pictures of one moment, the action over the r ticks that follow."""
    span = setup.schedule.replan
    place = {int(tick): i for i, tick in enumerate(ticks["tick"])}
    rows = [i for i, tick in enumerate(ticks["tick"]) if seen[i] == tick and _all_good(good, place, int(tick), span)]
    if not rows:
        return []
    at = np.array(rows)
    end = np.array([place[int(tick) + span - 1] for tick in ticks["tick"][at]])
    actions = _in_units(setup, before[at], ticks["setpoint"][end].astype(np.float64), span)
    width = len(record.meta["arm"]["state"])
    states = {int(row["tick"]): row["state"][-width:] for row in record.observations}
    state = np.stack([states[int(tick)] for tick in ticks["tick"][at]])
    finite = np.isfinite(state).all(axis=1)
    found = []
    for run in _runs(finite, ticks["tick"][at], ticks["instruction"][at], span):
        tick = ticks["tick"][at[run]]
        found.append(Stretch(tick, tick, state[run], actions[run], _told(words, ticks[at[run[0]]])))
    return found


def _all_good(good: NDArray[np.bool_], place: Mapping[int, int], tick: int, span: int) -> bool:
    return all(good[place[t]] if t in place else False for t in range(tick, tick + span))


def _in_units(setup: Setup, before: NDArray[np.float64], setpoint: NDArray[np.float64], span: int) -> Float32:
    """Set-points really commanded as the bundle's actions: absolute as they are, delta over the row, velocity per s."""
    change = setpoint - before
    columns = {"absolute": setpoint, "delta": change, "velocity": change / (setup.units.period_s * span)}
    return np.stack([columns[kind][:, i] for i, kind in enumerate(setup.units.kinds)], axis=1).astype(np.float32)


def _runs(good: NDArray[np.bool_], ticks: NDArray[np.int64], epoch: NDArray[Any], span: int) -> list[NDArray[np.int64]]:
    """Places of rows that follow one another at `span` ticks under one instruction."""
    places = np.flatnonzero(good)
    if len(places) == 0:
        return []
    apart = (np.diff(ticks[places]) != span) | (np.diff(epoch[places]) != 0)
    return np.split(places, np.flatnonzero(apart) + 1)


def _told(words: Mapping[int, str], row: NDArray[Any]) -> str:
    epoch = int(row["instruction"])
    if epoch not in words:
        todo = "the recorder lost the event of that change: leave this record out"
        raise BadInput(explain("instruction of the flight record", f"words of epoch {epoch}", "none", todo))
    return words[epoch]


def _episodes(record: Record, plan: list[Stretch], layout: Layout) -> Iterator[Episode]:
    """Stretches with their pictures, which are read in one pass through the record."""
    size = sum(camera.height * camera.width * 3 for camera in layout.cameras)
    most = max(_LEAST_ROWS, _PICTURE_BYTES // max(size, 1))
    parts = [part for stretch in plan for part in _cut(stretch, most)]
    pictures: dict[int, Mapping[str, Uint8]] = {}
    stream = observations_of(record)
    for part in parts:
        for old in [tick for tick in pictures if tick < part.seen[0]]:
            del pictures[old]
        while part.seen[-1] not in pictures:
            _, seen, wrong = next(stream)
            if wrong and any("image" in text for text in wrong):
                todo = "harvest the other records, or copy this one again"
                raise BadInput(explain(f"pictures of tick {seen.tick}", "as recorded", "; ".join(wrong), todo))
            if seen.tick >= part.seen[0]:
                pictures[seen.tick] = {name: frame.image for name, frame in seen.frames.items()}
        images = {c.name: np.stack([pictures[int(t)][c.name] for t in part.seen]) for c in layout.cameras}
        yield Episode(part.state, part.action, images, part.instruction)


def _cut(stretch: Stretch, most: int) -> list[Stretch]:
    """Parts of at most `most` rows, none of them shorter than an episode may be."""
    count = len(stretch.ticks)
    edges = list(range(0, count, most))
    if len(edges) > 1 and count - edges[-1] < _LEAST_ROWS:
        edges.pop()
    return [
        Stretch(stretch.ticks[a:b], stretch.seen[a:b], stretch.state[a:b], stretch.action[a:b], stretch.instruction)
        for a, b in zip(edges, [*edges[1:], count], strict=True)
    ]
