"""A run without processes: the real schedule, ladder, limiter and engine, and the rows and tape that a run writes.

Time is counted, not measured: tick t has its deadline at EPOCH_NS + t * T, so that a test says when things come.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

import profiles
from edgevla.bundle import open_bundle
from edgevla.control.children import record_meta
from edgevla.control.commands import Setup, Units, advance, committed, ladder_of, normalise
from edgevla.control.exchange import Status
from edgevla.control.ladder import MOVABLE
from edgevla.control.limiter import Limited, Motion, limits_of
from edgevla.control.machine import Inputs, Machine, Order, step
from edgevla.control.options import RunOptions
from edgevla.control.plan import plan_of
from edgevla.control.schedule import Answer, Schedule
from edgevla.flight import encoding as form
from edgevla.flight.segments import FlightFile, log_time
from edgevla.flight.tape import Observation, Seen
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.rows import GRAPHS, inference_dtype, tick_dtype

EPOCH_NS, PERIOD_NS = 5_000_000_000, 12_500_000
SCHEDULE = Schedule(32, 2, 8, 2)
HELD = np.array([0.0, 0.6, 0.2, 0.0], np.float32)
WORDS = {0: "open the drawer", 1: "close the window"}
INFER_NS = 6_000_000


@dataclass
class Happens:
    """What goes wrong, by tick."""

    status: dict[int, Status] = field(default_factory=dict)  # of the inference asked for there
    silent: range = range(0)  # inferences asked for there get no answer
    slow_ns: dict[int, int] = field(default_factory=dict)  # inferences that take so long
    stop: int | None = None  # operator stop
    instruct: int | None = None  # a new instruction
    oversleep: dict[int, int] = field(default_factory=dict)  # periods skipped before the tick
    unsent: range = range(0)  # commands that had expired
    frame_age_ns: dict[int, int] = field(default_factory=dict)


class Flight:
    """Rows and observations of `ticks` ticks."""

    def __init__(self, bundle_path, ticks=120, happens=None, arm=None, engine=None):
        self.bundle = open_bundle(bundle_path)
        self.engine = engine or PolicyEngine(self.bundle)
        self.engine.set_instruction(WORDS[0])
        self.arm = arm or replace(profiles.load_arm("metaworld-sawyer"), hold_s=0.1, torque_s=0.5)
        self.happens = happens or Happens()
        manifest = self.bundle.manifest
        options = RunOptions(instruction=WORDS[0], sim="none")
        planned = plan_of(self.bundle, profiles.load_target("host"), profiles.load_arm("metaworld-sawyer"))
        self.meta = record_meta(replace(planned, arm=self.arm, schedule=SCHEDULE), options, {})
        self.ticks = np.zeros(0, tick_dtype(4, 4))
        self.inferences = np.zeros(0, inference_dtype())
        self.observations: list[Observation] = []
        self.events = [{"event": "armed", "at_ns": EPOCH_NS}]
        self._units = Units(
            tuple(c.kind for c in manifest.channels),
            np.array([c.scale for c in manifest.channels]),
            np.array([c.offset for c in manifest.channels]),
            manifest.timing.period_s,
        )
        self._period_s = manifest.timing.period_s
        waits = ladder_of(self.arm.hold_s, self.arm.torque_s, self._period_s)
        self._setup = Setup(SCHEDULE, waits, limits_of(self.arm, self._units.period_s), self._units)
        self._machine, self._motion = Machine(), Motion.at_rest(HELD)
        self._chunk = self._reply = None  # released set-points; (tick, done tick, valid, set-points)
        self._sent, self._epoch, self._acted_on = -1, 0, -1
        rows, tick = [], 0
        while tick < ticks:
            skipped = self.happens.oversleep.get(tick, 0)
            tick += skipped
            rows.append(self._tick(tick, skipped))
            tick += 1
        self.ticks = np.array(rows, tick_dtype(4, 4))

    def _tick(self, tick, skipped):
        happens, before = self.happens, self._motion
        deadline_ns = EPOCH_NS + tick * PERIOD_NS
        if tick == happens.instruct:
            self._epoch = 1
            self.events.append({"event": "instruction", "at_ns": deadline_ns, "epoch": 1, "text": WORDS[1]})
        seen = self._reply if self._reply is not None and self._reply[1] <= tick else None
        answer = Answer(*seen[:3]) if seen else None
        order = Order.ARM if tick == 0 else Order.STOP if tick == happens.stop else Order.NONE
        inputs = Inputs(answer, order, self._motion.resting, self._epoch)
        self._machine, decision = step(SCHEDULE, self._setup.ladder, self._machine, tick, inputs)
        if decision.release is not None:
            self._chunk = seen[3]
        goal = None if decision.row is None or self._chunk is None else self._chunk[decision.row]
        elapsed_s = max(1, tick - self._sent) * self._setup.step_s
        moves, hit = self._machine.phase in MOVABLE, Limited.NONE
        written = moves and tick not in happens.unsent
        if moves:
            self._motion, hit = advance(self._setup.limits, self._machine.phase, before, goal, elapsed_s)
        if written:
            self._sent = tick
        else:
            self._motion = before
        state = (before.setpoint + 0.001).astype(np.float32)
        if decision.start:
            self._infer(tick, deadline_ns, before, state, decision.first)
        return self._row(tick, deadline_ns, skipped, written, answer, order, hit, decision.start, state)

    def _infer(self, tick, deadline_ns, before, state, first):
        happens = self.happens
        rows = committed(self._setup, self._machine, self._motion, before, self._chunk, tick)
        if tick in happens.silent:
            return
        prefix = normalise(self._units, before.setpoint, rows)
        commanded = np.vstack([before.setpoint, rows]).astype(np.float32)
        status = happens.status.get(tick, Status.OK)
        fresh = first or self._epoch != self._acted_on
        if self._epoch != self._acted_on:
            self.engine.set_instruction(WORDS[self._epoch])
        if fresh or not self.engine.remembers:
            self.engine.forget()
        picture, chunk, setpoints = image(tick), None, np.zeros((32, 4), np.float32)
        if status is Status.OK:
            chunk = self.engine.infer({"corner": picture}, state, prefix)
            setpoints = self.engine.to_setpoints(chunk, rows[-1], SCHEDULE.delay)
        begun_ns = deadline_ns + 300_000
        done_ns = begun_ns + happens.slow_ns.get(tick, INFER_NS)
        age_ns = happens.frame_age_ns.get(tick, 20_000_000)
        frames = {} if status is Status.NO_FRAME else {"corner": Seen(begun_ns - age_ns, tick + 1, picture)}
        self.observations.append(
            Observation(
                tick,
                deadline_ns + 200_000,
                begun_ns,
                done_ns,
                int(status),
                self._epoch,
                fresh,
                deadline_ns,
                state,
                prefix,
                commanded,
                frames,
                chunk,
                setpoints,
            )
        )
        self._acted_on = self._epoch
        record = (tick, deadline_ns + 200_000, done_ns, age_ns, 300_000, done_ns - begun_ns, status, self._epoch)
        record = (*record, 0, 0, (0,) * GRAPHS)
        self.inferences = np.append(self.inferences, np.array([record], inference_dtype()))
        done_tick = -(-(done_ns - EPOCH_NS) // PERIOD_NS)
        self._reply = (tick, done_tick, status is Status.OK, setpoints)

    def _row(self, tick, deadline_ns, skipped, written, answer, order, hit, started, state):
        plan, phase = self._machine.plan, self._machine.phase
        wake_ns = deadline_ns + 60_000
        values = {
            "step": tick, "tick": tick, "deadline_ns": deadline_ns, "wake_ns": wake_ns, "skipped": skipped,
            "write_ns": wake_ns + 40_000 if written else 0, "chunk": -1 if plan.chunk is None else plan.chunk,
            "answer": -1 if answer is None else answer.asked, "answer_done": -1 if answer is None else answer.done,
            "answer_valid": answer is not None and answer.valid, "order": order, "instruction": self._epoch,
            "phase": phase, "limited": hit, "late": not written and phase in MOVABLE, "started": started,
            "device_mode": 1, "device_faults": 0, "state_stamp_ns": deadline_ns - 1_000_000,
            "setpoint": self._motion.setpoint, "state": state, "effort": np.full(4, np.nan),
        }  # fmt: skip
        row = np.zeros(1, tick_dtype(4, 4))
        for name, value in values.items():
            row[name] = value
        return tuple(row[0])


def image(tick):
    """A picture that differs at every tick."""
    return np.random.default_rng(tick).integers(0, 256, (96, 96, 3), dtype=np.uint8)


@cache
def host():
    from edgevla.telemetry.host import describe_host

    return describe_host()


def write(flight, path, limit_bytes=1 << 30):
    """The record of a flight, written in one go: rows of 40 ticks at a time."""
    file = FlightFile(path, flight.meta, limit_bytes)
    for event in flight.events:
        file.event(event, event["at_ns"])
    for first in range(0, len(flight.ticks), 40):
        rows = flight.ticks[first : first + 40]
        file.rows(form.TICKS, rows, log_time(rows, "wake_ns"))
    if len(flight.inferences):
        file.rows(form.INFERENCES, flight.inferences, log_time(flight.inferences, "done_ns"))
    for number, seen in enumerate(flight.observations, 1):
        if seen is not None:  # an entry that is lost leaves its number
            file.observation(seen, number)
    file.finish()
    return path
