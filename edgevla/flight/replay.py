"""Runs a flight record again and finds the first difference: policy on every observation, schedule on every tick.

Two halves that meet in the record: `replay_policy` asks a bundle what the recorded pictures, state and prefix give;
`replay_ticks` asks schedule, ladder and limiter what the recorded answers give. Same CPU and same ONNX Runtime: bit
by bit; otherwise the policy is compared to the tolerance of the bundle's golden vectors. The ticks are plain float64
arithmetic and compared bit by bit everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgevla.bundle.reader import Bundle
from edgevla.control.commands import Setup, advance, committed, goal, normalise
from edgevla.control.exchange import Status
from edgevla.control.ladder import MOVABLE, Phase
from edgevla.control.limiter import Limited, Motion
from edgevla.control.machine import Decision, Inputs, Machine, Order, Trip, step
from edgevla.control.schedule import Answer
from edgevla.errors import EdgevlaError
from edgevla.flight.meta import instructions_of, setup_of
from edgevla.flight.reader import Record, moment_of, observations_of
from edgevla.flight.tape import Observation
from edgevla.policy.blend import setpoints_to_release

_STATUS_RAN = (Status.OK, Status.NOT_FINITE, Status.FAILED)  # the engine saw the observation


@dataclass(frozen=True)
class Difference:
    """The first thing that is not as recorded. `stage`: image, chunk, setpoints, prefix, started, phase, ..."""

    tick: int
    stage: str
    expected: str  # what the record says
    got: str  # what the replay gives

    def __str__(self) -> str:
        return f"tick {self.tick}, {self.stage}: recorded {self.expected}, replayed {self.got}"


@dataclass(frozen=True)
class Replayed:
    """How far a half went. `passed_over`: what could not be compared, and why."""

    compared: int
    difference: Difference | None = None
    passed_over: tuple[str, ...] = ()


class Engine(Protocol):
    """What is needed of `edgevla.policy.engine.PolicyEngine`."""

    def set_instruction(self, text: str) -> None: ...
    def forget(self) -> None: ...
    @property
    def remembers(self) -> bool: ...
    def observe(self, images: Mapping[str, NDArray[np.uint8]], state: Any) -> None: ...
    def infer(self, images: Mapping[str, NDArray[np.uint8]], state: Any, prefix: Any) -> NDArray[np.float32]: ...
    def to_setpoints(self, chunk: Any, anchor: Any, d: int) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Terms:
    """How the policy is compared, and the facts that decide it."""

    same_cpu: bool
    same_runtime: bool
    same_bundle: bool
    tolerance: float  # 0: bit by bit

    @property
    def exact(self) -> bool:
        return self.tolerance == 0.0


def terms_of(record: Record, host: Mapping[str, Any], bundle_sha256: str, bundle: Bundle) -> Terms:
    """Bit by bit on the same CPU model, instruction sets and ONNX Runtime; else the golden vectors' tolerance."""
    then = record.meta.get("host", {})
    same_cpu = all(then.get(key) == host.get(key) for key in ("cpu", "arch", "flags"))
    runtimes = [dict(of.get("packages") or {}).get("onnxruntime") for of in (then, host)]
    same_runtime = runtimes[0] == runtimes[1] is not None
    tolerance = 0.0 if same_cpu and same_runtime else max(golden.tolerance for golden in bundle.golden.values())
    recorded = record.meta.get("bundle_sha256")
    return Terms(same_cpu, same_runtime, recorded == bundle_sha256, tolerance)


def replay_policy(record: Record, engine: Engine, tolerance: float = 0.0) -> Replayed:
    """Every recorded inference again: each entry holds all the observations that it was made of."""
    words = instructions_of(record.meta, record.events)
    compared, told, known, expected, skipped = 0, None, False, -1, 0
    for row, seen, wrong in observations_of(record):
        # A policy that remembers is followed from where its memory was cleared to where an entry is lost.
        known = bool(seen.cleared) or (known and int(row["sequence"]) == expected)
        expected = int(row["sequence"]) + 1
        if seen.cleared or not engine.remembers:
            engine.forget()
        if wrong:
            return Replayed(compared, Difference(seen.tick, "image", "as it was recorded", "; ".join(wrong)))
        if seen.status not in _STATUS_RAN:
            continue
        if seen.instruction not in words:
            why = f"an instruction of epoch {seen.instruction} in the record"
            return Replayed(compared, Difference(seen.tick, "instruction", why, "none"))
        if seen.instruction != told:
            engine.set_instruction(words[seen.instruction])
            told = seen.instruction
        states, blend = len(record.meta["arm"]["state"]), record.meta.get("blend_ticks")
        if engine.remembers and not known:
            skipped += 1
            continue
        difference = _infer_again(seen, states, blend, engine, tolerance)
        if difference is not None:
            return Replayed(compared, difference)
        compared += 1
    why = f"{skipped} inferences behind a lost entry: what the policy remembered there is not known"
    return Replayed(compared, None, (why,) if skipped else ())


def _infer_again(
    seen: Observation, states: int, blend: int | None, engine: Engine, tolerance: float
) -> Difference | None:
    try:
        chunk = _chunk_of(seen, states, blend, engine)
    except EdgevlaError as error:
        first = str(error).splitlines()[0]
        return None if seen.status != Status.OK else Difference(seen.tick, "policy", "a chunk", first)
    if seen.status != Status.OK:
        return Difference(seen.tick, "policy", Status(seen.status).name.lower(), "a chunk")
    if seen.chunk is None:
        return Difference(seen.tick, "chunk", "none, with status ok", "a chunk")
    different = _rows_differ(seen.tick, "chunk", seen.chunk, chunk, tolerance)
    if different is not None:
        return different
    setpoints = setpoints_to_release(engine, seen.chunk, seen.commanded, blend)
    return _rows_differ(seen.tick, "setpoints", seen.setpoints, setpoints, tolerance)


def _chunk_of(seen: Observation, states: int, blend: int | None, engine: Engine) -> NDArray[np.float32]:
    """As `policy.process` asks: earlier observations first, then the one of the tick."""
    state = seen.state.reshape(-1, states)
    images: list[dict[str, NDArray[np.uint8]]] = [{} for _ in state]
    for key, frame in seen.frames.items():
        name, back = moment_of(key)
        images[len(state) - 1 - back][name] = frame.image
    for image, row in zip(images[:-1], state[:-1], strict=True):
        engine.observe(image, row)
    return engine.infer(images[-1], state[-1], seen.prefix if blend is None else seen.prefix[:0])


def _rows_differ(
    tick: int, stage: str, expected: NDArray[Any], got: NDArray[Any], tolerance: float
) -> Difference | None:
    """First number that differs: by a bit, or by more than the tolerance."""
    expected, got = np.asarray(expected, np.float32), np.asarray(got, np.float32)
    if expected.shape != got.shape:
        return Difference(tick, stage, f"shape {expected.shape}", f"shape {got.shape}")
    if tolerance:
        wrong = ~((np.abs(expected - got) <= tolerance) | (np.isnan(expected) & np.isnan(got)))
    else:
        wrong = expected.view(np.uint32) != got.view(np.uint32)
    if not wrong.any():
        return None
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = ", ".join(str(i) for i in place)
    what = f"{stage}[{where}]"
    return Difference(tick, what, f"{float(expected[place])!r}", f"{float(got[place])!r}")


def replay_ticks(meta: Mapping[str, Any], rows: NDArray[Any], observations: Iterable[Observation]) -> Replayed:
    """Machine and motion again on the recorded inputs of every servo step."""
    loop = _Loop(setup_of(meta), {seen.tick: replace(seen, frames={}) for seen in observations})
    compared = 0
    passed_over: list[str] = []
    for row in rows:
        why = loop.cannot_follow(row)
        if not why and loop.follows:
            difference, why = loop.step(row)
            if difference is not None:
                return Replayed(compared, difference, tuple(passed_over))
            compared += not why
        if why:
            loop.follows = False
            passed_over.append(f"tick {row['tick']}: {why}: not compared up to the next arming")
    return Replayed(compared, None, tuple(passed_over))


class _Loop:
    """What `control.servo` does between its sleep and its write, on recorded inputs. `row`: one servo step."""

    def __init__(self, setup: Setup, seen: Mapping[int, Observation]) -> None:
        self._setup, self._seen = setup, seen
        self.follows = False
        self._machine = Machine()
        self._motion = Motion.at_rest(np.zeros(len(setup.units.kinds)))
        self._before = self._motion
        self._chunk: NDArray[np.float32] | None = None
        self._decided = Decision(None, False, None)
        self._last: NDArray[Any] | None = None
        self._tick = self._sent_step = -1

    def cannot_follow(self, row: NDArray[Any]) -> str:
        """Begins at the first disarmed step and at every arming; says once why it cannot go on."""
        last, self._last = self._last, row
        moves = int(row["phase"]) in MOVABLE
        if row["order"] == Order.ARM or (last is None and row["phase"] == Phase.DISARMED):
            self._begin(row)
            return ""
        if last is None:
            return "the record begins after the arming" if moves else ""
        moved = int(last["phase"]) in MOVABLE
        if self.follows and moves and not moved:
            return "the arming is lost"
        if self.follows and moves and row["step"] != last["step"] + 1 + row["skipped"]:
            return f"servo steps {last['step'] + 1} to {row['step'] - 1} are lost"
        return ""

    def _begin(self, row: NDArray[Any]) -> None:
        """The arm holds what the device held; nothing of an earlier chunk acts any more."""
        if not self.follows:
            self._machine = Machine()
        self.follows = True
        self._motion, self._chunk = Motion.at_rest(row["setpoint"]), None

    def step(self, row: NDArray[Any]) -> tuple[Difference | None, str]:
        """The first difference of this servo step, or why it cannot be told."""
        tick, setup, first = int(row["tick"]), self._setup, int(row["tick"]) > self._tick
        if first:
            why = self._advance(row)
            if why:
                return None, why
        part, before = int(row["step"]) % setup.servo_ratio, self._motion
        hit = Limited.NONE
        if self._machine.phase in MOVABLE:
            wanted = goal(setup, self._before, self._chunk, self._decided.row, part)
            elapsed_s = max(1, int(row["step"]) - self._sent_step) * setup.step_s
            self._motion, hit = advance(setup.limits, self._machine.phase, before, wanted, elapsed_s)
            if row["write_ns"]:
                self._sent_step = int(row["step"])
            else:
                self._motion = before
        difference = self._compare(row, first, hit)
        if difference is None and first and self._decided.start:
            difference = self._prefix(tick)
        return difference, ""

    def _advance(self, row: NDArray[Any]) -> str:
        """Everything discrete of this tick."""
        answer, tick = None, int(row["tick"])
        if row["answer"] >= 0:
            answer = Answer(int(row["answer"]), int(row["answer_done"]), bool(row["answer_valid"]))
        order, trip = Order(int(row["order"])), Trip(int(row["trip"]))
        inputs = Inputs(answer, order, self._motion.resting, int(row["instruction"]), trip, bool(row["rest"]))
        self._machine, self._decided = step(self._setup.schedule, self._setup.ladder, self._machine, tick, inputs)
        self._tick, self._before = tick, self._motion
        if self._decided.release is not None:
            released = self._seen.get(self._decided.release)
            if released is None:
                return "the chunk released here is lost"
            self._chunk = released.setpoints
        return ""

    def _compare(self, row: NDArray[Any], first: bool, hit: Limited) -> Difference | None:
        tick = int(row["tick"])
        chunk = -1 if self._machine.plan.chunk is None else self._machine.plan.chunk
        for stage, got, name in (
            ("chunk in force", chunk, int),
            ("phase", self._machine.phase, lambda value: Phase(value).name),
            ("started", first and self._decided.start, bool),
            ("limited", hit, int),
        ):
            expected = row[stage.split(" ")[0]]
            if int(expected) != int(got):
                return Difference(tick, stage, _said(expected, name), _said(got, name))
        return _rows_differ(tick, "setpoint", row["setpoint"], self._motion.setpoint, 0.0)

    def _prefix(self, tick: int) -> Difference | None:
        """What the inference of this tick was told must follow from the steps before it."""
        seen = self._seen.get(tick)
        if seen is None:
            return None
        rows = committed(self._setup, self._machine, self._motion, self._before, self._chunk, tick)
        prefix = normalise(self._setup.units, self._before.setpoint, rows)
        commanded = np.vstack([self._before.setpoint, rows]).astype(np.float32)
        return _rows_differ(tick, "prefix", seen.prefix, prefix, 0.0) or _rows_differ(
            tick, "commanded", seen.commanded, commanded, 0.0
        )


def _said(value: Any, name: Callable[[int], Any]) -> str:
    try:
        return str(name(int(value)))
    except ValueError:
        return str(int(value))
