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
from edgevla.control.commands import committed, normalise, wanted_row
from edgevla.control.exchange import Status
from edgevla.control.ladder import Control, Ladder, Phase, advance, ask_to_stop
from edgevla.control.limiter import Limited, Motion, limits_of
from edgevla.control.schedule import Answer, Plan, decide
from edgevla.errors import EdgevlaError
from edgevla.flight.meta import instructions_of, setup_of
from edgevla.flight.reader import Record, observations_of
from edgevla.flight.tape import Observation

_ORDER_STOP, _ORDER_QUIT = 2, 3  # of control.machine.Order
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
    recorded = dict(record.meta.get("bundle", {})).get("manifest_sha256")
    return Terms(same_cpu, same_runtime, recorded == bundle_sha256, tolerance)


def replay_policy(record: Record, engine: Engine, tolerance: float = 0.0) -> Replayed:
    """Every recorded inference again, with its history and instruction."""
    words = instructions_of(record.meta, record.events)
    compared, told, last, passed_over = 0, None, None, []
    known = False  # the engine's history is that of the recorded one
    for row, seen, wrong in observations_of(record):
        if wrong:
            return Replayed(compared, Difference(seen.tick, "image", "as it was recorded", "; ".join(wrong)))
        if last is not None and row["sequence"] != last + 1 and record.meta.get("observations", 1) > 1:
            known = False
        last = int(row["sequence"])
        if seen.status not in _STATUS_RAN:
            continue
        if seen.instruction not in words:
            why = f"an instruction of epoch {seen.instruction} in the record"
            return Replayed(compared, Difference(seen.tick, "instruction", why, "none"))
        if seen.cleared or seen.instruction != told:
            engine.set_instruction(words[seen.instruction])
            told, known = seen.instruction, known or seen.cleared
        if not known and record.meta.get("observations", 1) > 1:
            passed_over.append(f"tick {seen.tick}: observations before it are lost")
            continue
        difference = _infer_again(seen, engine, tolerance)
        if difference is not None:
            return Replayed(compared, difference, tuple(passed_over))
        compared += 1
    return Replayed(compared, None, tuple(passed_over))


def _infer_again(seen: Observation, engine: Engine, tolerance: float) -> Difference | None:
    images = {name: frame.image for name, frame in seen.frames.items()}
    try:
        chunk = engine.infer(images, seen.state, seen.prefix)
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
    setpoints = engine.to_setpoints(seen.chunk, seen.anchor, len(seen.prefix))
    return _rows_differ(seen.tick, "setpoints", seen.setpoints, setpoints, tolerance)


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
    """Schedule, ladder and limiter again on the recorded inputs of every tick, from each arming on."""
    control_side = _ControlSide(meta, {seen.tick: replace(seen, frames={}) for seen in observations})
    compared, passed_over = 0, []
    for row in rows[np.flatnonzero(np.diff(rows["tick"], prepend=-1 << 62))]:
        why = control_side.cannot_follow(row)
        if why:
            passed_over.append(why)
        if control_side.follows:
            difference = control_side.step(row)
            if difference is not None:
                return Replayed(compared, difference, tuple(passed_over))
            if control_side.follows:
                compared += 1
            else:
                passed_over.append(f"tick {row['tick']}: the chunk released here is lost: not compared from there on")
    return Replayed(compared, None, tuple(passed_over))


class _ControlSide:
    """The state of schedule and ladder, one recorded tick at a time."""

    def __init__(self, meta: Mapping[str, Any], seen: dict[int, Observation]) -> None:
        setup = setup_of(meta)
        self._schedule, self._units, self._seen = setup.schedule, setup.units, seen
        self._limits, self._period_s = limits_of(setup.arm), setup.units.period_s
        waits = (setup.arm.hold_s, setup.arm.torque_s)
        self._ladder = Ladder(*(round(wait_s / self._period_s) for wait_s in waits))
        self.follows = False
        self._plan, self._control = Plan(), Control(Motion.at_rest(np.zeros(len(setup.arm.channels))))
        self._chunk: NDArray[np.float32] | None = None
        self._tick = self._sent = -1

    def cannot_follow(self, row: NDArray[Any]) -> str:
        """Begins anew at an arming and stops at a gap; says so once, else ''."""
        tick = int(row["tick"])
        before, self._last_phase = getattr(self, "_last_phase", int(Phase.DISARMED)), int(row["phase"])
        if row["phase"] == Phase.DISARMED:
            self.follows = False
        elif row["phase"] == Phase.START and before in (Phase.DISARMED, Phase.LATCHED, Phase.TORQUE):
            self._begin(row)
        elif self.follows and tick != self._tick + 1 + int(row["skipped"]):
            self.follows = False
            return f"ticks {self._tick + 1} to {tick - 1} are lost: not compared from there to the next arming"
        elif not self.follows and before == Phase.DISARMED:
            return f"tick {tick}: the record begins after the arming: not compared up to the next one"
        return ""

    def _begin(self, row: NDArray[Any]) -> None:
        self.follows = True
        self._plan = Plan(due=int(row["tick"]), grid=int(row["tick"]))
        self._control = Control(Motion.at_rest(row["setpoint"]), since=int(row["tick"]))
        self._chunk, self._tick = None, int(row["tick"]) - 1
        self._sent = self._tick

    def step(self, row: NDArray[Any]) -> Difference | None:
        tick, before = int(row["tick"]), self._control
        answer = None
        if row["answer"] >= 0:
            answer = Answer(int(row["answer"]), int(row["answer_done"]), bool(row["answer_valid"]))
        self._plan, decision = decide(self._schedule, self._plan, tick, answer)
        if decision.release is not None:
            released = self._seen.get(decision.release)
            if released is None:
                self.follows = False
                return None  # the tape lost it
            self._chunk = released.setpoints
        if row["order"] in (_ORDER_STOP, _ORDER_QUIT):
            self._control = ask_to_stop(self._control)
        wanted = wanted_row(self._schedule, self._plan, self._chunk, tick)
        elapsed_s = (tick - self._sent) * self._period_s
        self._control, hit = advance(self._limits, self._ladder, self._control, wanted, tick, elapsed_s)
        difference = self._compare(row, decision.start, hit) or (self._prefix(tick, before) if decision.start else None)
        self._tick = tick
        if row["write_ns"]:
            self._sent = tick
        else:
            self._control = replace(self._control, motion=before.motion)
        return difference

    def _compare(self, row: NDArray[Any], start: bool, hit: Limited) -> Difference | None:
        tick = int(row["tick"])
        chunk = -1 if self._plan.chunk is None else self._plan.chunk
        for stage, got, name in (
            ("chunk in force", chunk, int),
            ("phase", self._control.phase, lambda value: Phase(value).name),
            ("started", start, bool),
            ("limited", hit, int),
        ):
            expected = row[stage.split(" ")[0]]
            if int(expected) != int(got):
                return Difference(tick, stage, _said(expected, name), _said(got, name))
        return _rows_differ(tick, "setpoint", row["setpoint"], self._control.motion.setpoint, 0.0)

    def _prefix(self, tick: int, before: Control) -> Difference | None:
        """What the inference of this tick was told must follow from the ticks before it."""
        seen = self._seen.get(tick)
        if seen is None:
            return None
        rows = committed(
            self._schedule, self._limits, self._ladder, self._control, self._plan, self._chunk, tick, self._period_s
        )
        prefix = normalise(self._units, before.motion.setpoint.astype(np.float32), rows)
        return _rows_differ(tick, "prefix", seen.prefix, prefix, 0.0) or _rows_differ(
            tick, "anchor", seen.anchor, rows[-1], 0.0
        )


def _said(value: Any, name: Callable[[int], Any]) -> str:
    try:
        return str(name(int(value)))
    except ValueError:
        return str(int(value))
