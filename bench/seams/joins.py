"""Six ways to join chunks that arrive d ticks after they were asked for:

    prefix    ours: asked every r ticks with the d committed actions as its prefix, released at k + d
    blend     ours for a policy that takes no prefix: the same, seams blended forward (`edgevla.policy.blend`)
    both      a prefix, and what is left of the jump in speed blended forward
    plain     asked every r ticks, the newest chunk acts from its row d on
    ensemble  ACT (Zhao et al. 2023, section IV-B and its code): asked as often as one inference at a time allows, every
              max(1, d) ticks; what all chunks say of a tick is averaged with weights exp(-0.01 i), the oldest i = 0
    lerobot   LeRobot's asynchronous client and server with their defaults (`aggregate_fn_name` weighted_average:
              0.3 old + 0.7 new; `chunk_size_threshold` 0.5): asked while half of the chunk or less is left in the queue

Averages are taken of what the policy says, as both do: of displacements where it says displacements. Two kindnesses to
LeRobot: its row 0 acts in the tick after the observation (its client counts one tick less and drops it), and its filter
of similar observations, whose threshold is meant for degrees, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgevla.control.commands import Units, normalise
from edgevla.policy.blend import blend
from edgevla.sim.lockstep import Policy

Float32 = npt.NDArray[np.float32]
ENSEMBLE_M = 0.01
LEROBOT_OLD, LEROBOT_NEW, LEROBOT_THRESHOLD = 0.3, 0.7, 0.5


class Seen(Protocol):
    """What the policy saw and said, by tick: a `bench.seams.record.Recording`, or a run that is under way."""

    @property
    def images(self) -> Sequence[Any] | npt.NDArray[np.uint8]: ...
    @property
    def states(self) -> Sequence[Any] | Float32: ...
    @property
    def chunks(self) -> Sequence[Any] | Float32: ...
    @property
    def commanded(self) -> Sequence[Any] | Float32: ...
    @property
    def start(self) -> Float32: ...


@dataclass(frozen=True)
class Said:
    """What the policy said, as displacements (its own way) or summed to absolute set-points."""

    seen: Seen
    engine: Policy
    units: Units
    horizon: int
    absolute: bool

    def values(self, tick: int) -> npt.NDArray[np.float64]:
        """(H, A) of the chunk asked at `tick`: per tick where it says displacements, else set-points."""
        if self.absolute:
            return self.own(tick).astype(np.float64)
        values: npt.NDArray[np.float64] = self.seen.chunks[tick] * self.units.scale + self.units.offset
        return values

    def own(self, tick: int, before: Float32 | None = None) -> Float32:
        """Set-points (H, A) of the chunk asked at `tick`, summed from `before`, or from what was recorded."""
        r = self.seen
        start = (r.commanded[tick - 1] if tick else r.start) if before is None or self.absolute else before
        return self.engine.to_setpoints(r.chunks[tick], start, 0)

    def command(self, value: npt.NDArray[np.float64], last: Float32) -> Float32:
        """The set-point (A,) that a value means after the command `last`."""
        if self.absolute:
            return value.astype(np.float32)
        delta = np.array([kind == "delta" for kind in self.units.kinds])
        return np.where(delta, last + value, value).astype(np.float32)


class Join(Protocol):
    """One way. `asked`: inferences so far; `seam`: a chunk began to act in the newest tick."""

    asked: int
    seam: bool

    def wanted(self, tick: int, commanded: Float32) -> Float32 | None:
        """Set-point (A,) for `tick`; `commanded` (tick + 1, A) are those of ticks -1 .. tick - 1. None: hold."""


@dataclass
class Released:
    """Asked every r ticks, acting from k + d: `follow(k, commanded at k - 1 .. k + d - 1)` says what is released."""

    follow: Callable[[int, Float32], Float32]
    delay: int
    replan: int
    asked: int = 0
    seam: bool = False
    _chunk: Float32 | None = None
    _asked_at: int = 0

    def wanted(self, tick: int, commanded: Float32) -> Float32 | None:
        self.asked += tick % self.replan == 0
        self.seam = tick >= self.delay and (tick - self.delay) % self.replan == 0
        if self.seam:
            self._asked_at = tick - self.delay
            self._chunk = self.follow(self._asked_at, commanded[self._asked_at :])
        return None if self._chunk is None else self._chunk[tick - self._asked_at]


def prefix(said: Said, delay: int, replan: int) -> Released:
    """Ours. The policy is asked again, on the recorded observation, with what this run committed."""

    def follow(k: int, commanded: Float32) -> Float32:
        return said.engine.to_setpoints(_with_prefix(said, k, commanded), commanded[-1], delay)

    return Released(follow, delay, replan)


def prefix_blended(said: Said, delay: int, replan: int, ticks: int) -> Released:
    """Ours with both: the policy goes on from the prefix, and the speed that is still missing is faded out."""

    def follow(k: int, commanded: Float32) -> Float32:
        own = said.engine.to_setpoints(_with_prefix(said, k, commanded), commanded[0], 0)
        return blend(own, commanded, ticks) if delay else own

    return Released(follow, delay, replan)


def _with_prefix(said: Said, k: int, commanded: Float32) -> Float32:
    rows = normalise(said.units, commanded[0], commanded[1:])
    return said.engine.infer(said.seen.images[k], said.seen.states[k], rows)


def blended(said: Said, delay: int, replan: int, ticks: int) -> Released:
    """Ours for a policy without a prefix. At zero delay nothing was committed: the chunk as it is."""

    def follow(k: int, commanded: Float32) -> Float32:
        own = said.own(k, commanded[0])
        return blend(own, commanded, ticks) if delay else own

    return Released(follow, delay, replan)


@dataclass
class Plain:
    """The newest chunk that is there."""

    said: Said
    delay: int
    replan: int
    asked: int = 0
    seam: bool = False

    def wanted(self, tick: int, commanded: Float32) -> Float32 | None:
        self.asked += tick % self.replan == 0
        self.seam = tick >= self.delay and (tick - self.delay) % self.replan == 0
        if tick < self.delay:
            return None
        k = (tick - self.delay) // self.replan * self.replan
        return self.said.command(self.said.values(k)[tick - k], commanded[-1])


@dataclass
class Ensemble:
    """ACT's temporal ensembling."""

    said: Said
    delay: int
    asked: int = 0
    seam: bool = False
    _chunks: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)

    def wanted(self, tick: int, commanded: Float32) -> Float32 | None:
        every = max(1, self.delay)
        if tick % every == 0:
            self.asked += 1
            self._chunks[tick] = self.said.values(tick)
        self.seam = tick >= self.delay and (tick - self.delay) % every == 0
        rows = [c[tick - k] for k, c in self._chunks.items() if self.delay <= tick - k < len(c)]  # oldest first
        if not rows:
            return None
        weights = np.exp(-ENSEMBLE_M * np.arange(len(rows)))
        return self.said.command(weights @ np.array(rows) / weights.sum(), commanded[-1])


@dataclass
class LeRobot:
    """The queue of LeRobot's client and the one-place mailbox of its server."""

    said: Said
    delay: int
    asked: int = 0
    seam: bool = False
    _queue: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)  # by tick
    _mail: int | None = None  # newest observation that the server has not taken
    _running: int | None = None  # observation that it works on, ...
    _due: int = 0  # ... until this tick

    def wanted(self, tick: int, commanded: Float32) -> Float32 | None:
        self.seam = False
        self._receive(tick)
        if len(self._queue) <= LEROBOT_THRESHOLD * self.said.horizon:
            self._mail = tick
        if self._running is None and self._mail is not None:
            self._running, self._mail, self._due = self._mail, None, tick + self.delay
            self.asked += 1
            self._receive(tick)
        value = self._queue.pop(tick, None)
        return None if value is None else self.said.command(value, commanded[-1])

    def _receive(self, tick: int) -> None:
        """The answer, if it is there: rows of the past are dropped, those that meet an older one are averaged."""
        if self._running is None or tick < self._due:
            return
        rows = dict(enumerate(self.said.values(self._running), self._running))
        self._queue = {
            t: LEROBOT_OLD * self._queue[t] + LEROBOT_NEW * row if t in self._queue else row
            for t, row in rows.items()
            if t >= tick
        }
        self._running, self.seam = None, True
