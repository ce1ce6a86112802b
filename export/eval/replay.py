"""Recorded episodes through the real schedule. Open loop: the record does not react to what is commanded.

Observations come from the record, tick by tick; prefix, release at k + d, limiter and ladder are those of the loop on
the robot (`edgevla.sim.lockstep.Runner`). A policy of several observations is also shown the ticks before. Said is how
far the commands leave the recorded ones, and the seam: what the fresh chunk wants at its first acting tick, minus what
the chunk before it wanted there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import ActionChannel, Manifest
from edgevla.control.schedule import broken_inequalities
from edgevla.errors import BadInput, explain
from edgevla.sim.lockstep import Loop, Policy, Runner
from export.eval.error import show_past
from export.eval.record import Record

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """One episode."""

    episode: int
    instruction: str
    commanded: Float64  # (n, A) set-points
    recorded: Float64  # (n, A)
    seams: Float64  # (releases but the first, A)

    @property
    def departure(self) -> Float64:
        """(n, A), how far from the recorded set-point."""
        return np.abs(self.commanded - self.recorded)


class RecordedPlant:
    """An episode of a record where the loop expects an arm: it is seen as recorded and obeys nothing."""

    def __init__(self, record: Record, episode: int, setpoint0: Float64) -> None:
        self._record, (self.tick, _) = record, record.episodes[episode]
        self._start = setpoint0.astype(np.float32)
        self.commanded: list[Float64] = []

    @property
    def setpoint0(self) -> Float32:
        return self._start

    def render(self) -> Any:
        """What `PolicyEngine.infer` takes as images: by camera, where a simulated arm has one picture."""
        return self._record.images(self.tick)

    def position(self) -> Float32:
        return self._record.state[self.tick]

    def step(self, setpoint: npt.NDArray[np.floating[Any]]) -> None:
        self.commanded.append(np.array(setpoint, np.float64))
        self.tick += 1


class _Listener:
    """A policy, with the set-points of every chunk written down."""

    def __init__(self, policy: Policy, show_past: Callable[[], None]) -> None:
        self._policy, self._show_past = policy, show_past
        self.chunks: list[Float32] = []

    def set_instruction(self, text: str) -> None:
        self._policy.set_instruction(text)

    def infer(self, images: Any, state: Float32, prefix: Float32) -> Float32:
        self._show_past()
        return self._policy.infer(images, state, prefix)

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        self.chunks.append(self._policy.to_setpoints(chunk, anchor, d))
        return self.chunks[-1]


def replay(policy: Policy, record: Record, episode: int, manifest: Manifest, loop: Loop) -> Replay:
    """Plays one recorded episode from its first tick to its last."""
    first, end = record.episodes[episode]
    start = start_of(record, first, manifest)
    plant = RecordedPlant(record, episode, start)
    listener = _Listener(policy, lambda: show_past(policy, record, plant.tick, manifest))
    words = record.instruction(first)
    listener.set_instruction(words)
    runner = Runner(listener, plant, loop)
    for tick in range(end - first):
        runner.tick(tick)
    recorded = recorded_setpoints(record.executed[first:end], start, manifest.channels)
    schedule = loop.schedule
    released = (end - first - 1 - schedule.delay) // schedule.replan + 1  # the last may be asked for and never act
    seams = seam_jumps(listener.chunks[: max(released, 0)], schedule.delay, schedule.replan, len(manifest.channels))
    return Replay(episode, words, np.array(plant.commanded), recorded, seams)


def seam_jumps(chunks: Sequence[Float32], delay: int, replan: int, channels: int) -> Float64:
    """(chunks - 1, A): first acting row of each chunk, minus the row of the one before it for the same tick."""
    jumps = [abs(new[delay].astype(np.float64) - old[replan + delay]) for old, new in pairwise(chunks)]
    return np.array(jumps).reshape(-1, channels)


def start_of(record: Record, first: int, manifest: Manifest) -> Float64:
    """Set-point (A,) held before the first tick: the first command of absolute channels, the state of delta ones.

    Raises:
        BadInput: no state goes by the name of a delta channel, so where its displacements start is not known.
    """
    return np.array([_start_of(record, first, i, channel) for i, channel in enumerate(manifest.channels)])


def _start_of(record: Record, first: int, index: int, channel: ActionChannel) -> float:
    if channel.kind != "delta":
        return float(np.clip(record.executed[first, index], channel.minimum, channel.maximum))
    fitting = [
        i for i, name in enumerate(record.state_names) if name == channel.name or name.endswith(f"_{channel.name}")
    ]
    if len(fitting) != 1:
        got, todo = ", ".join(record.state_names), "evaluate without --replay: displacements need no start"
        raise BadInput(explain("replay of a delta channel", f"one state named {channel.name}", got, todo))
    return float(np.clip(record.state[first, fitting[0]], channel.minimum, channel.maximum))


def recorded_setpoints(executed: Float64, start: Float64, channels: Sequence[ActionChannel]) -> Float64:
    """What was commanded (n, A), deltas summed from the start within the range of each channel."""
    low, high = np.array([c.minimum for c in channels]), np.array([c.maximum for c in channels])
    delta = np.array([c.kind == "delta" for c in channels])
    rows, current = np.clip(executed, low, high), start
    for row, step in zip(rows, executed, strict=True):
        current = np.clip(current + step, low, high)
        row[delta] = current[delta]
    return rows


def delays_of(loop: Loop, manifest: Manifest) -> list[int]:
    """Every d that the schedule and the training of the policy allow."""
    s = loop.schedule
    possible = range(1, manifest.timing.d_max + 1)
    return [d for d in possible if not broken_inequalities(s.horizon, d, s.replan, s.survive)]


def with_delay(loop: Loop, delay: int) -> Loop:
    """The same loop with another d."""
    return replace(loop, schedule=replace(loop.schedule, delay=delay))
