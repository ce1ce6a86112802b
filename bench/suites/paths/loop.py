"""The pieces of a servo step, of a control tick, and of the memory between the processes."""

from __future__ import annotations

import os
from typing import Any

from .path import Made, Paths, Place

PATHS = Paths()
PERIOD_S = 0.0125  # Meta-World's 80 Hz
STEP_S = 0.001
JOINTS = 7
CHANNELS, STATES = 7, 14
SLOT_SIZES = {"200 B": 200, "4 KiB": 4096, "1 MiB": 1 << 20}  # a request, a reply with its chunk, a camera frame


def sawyer() -> Any:
    """Limits of the reference arm: three Cartesian channels and a gripper."""
    import profiles
    from edgevla.control.limiter import limits_of

    return limits_of(profiles.load_arm("metaworld-sawyer"), PERIOD_S)


def start() -> tuple[Any, Any]:
    """(at rest, a set-point that no limit touches)."""
    import numpy as np

    from edgevla.control.limiter import Motion

    return Motion.at_rest(np.array([0.0, 0.6, 0.2, 0.0])), np.array([0.005, 0.6, 0.2, 1.0], np.float32)


def seven_joints() -> tuple[Any, Any, Any]:
    """(limits, in the middle of a swing, its target): 2 rad/s, 10 rad/s^2, 100 rad/s^3."""
    import numpy as np

    from edgevla.control.limiter import Limits, Motion, track

    low, high, speed, acceleration, jerk, stop = (np.full(JOINTS, x) for x in (-2.9, 2.9, 2.0, 10.0, 100.0, 5.0))
    limits = Limits(low, high, speed, acceleration, jerk, stop, STEP_S)
    motion, wanted = Motion.at_rest(np.zeros(JOINTS)), np.zeros(JOINTS)
    for tick in range(200):
        wanted = 0.1 * np.sin(0.1 * np.arange(JOINTS) + tick * STEP_S)
        motion, _ = track(limits, motion, wanted, STEP_S)
    return limits, motion, wanted


def _moved(result: object) -> bool:
    import numpy as np

    return isinstance(result, tuple) and bool(np.isfinite(result[0].setpoint).all())


@PATHS.add("loop/machine: 8 ticks with one inference", pure=True)
def _machine(place: Place) -> Made:
    """One re-plan period of the host profile: armed, asked, answered, released."""
    from edgevla.control.ladder import Ladder
    from edgevla.control.machine import Inputs, Machine, Order, step
    from edgevla.control.schedule import Answer, Schedule

    schedule, ladder = Schedule(horizon=32, delay=2, replan=8, survive=2), Ladder(40, 800)

    def period() -> Machine:
        machine = Machine()
        for tick in range(8):
            told = Inputs(Answer(0, 1, True) if tick == 1 else None, Order.NONE if tick else Order.ARM)
            machine, _ = step(schedule, ladder, machine, tick, told)
        return machine

    return Made(period, lambda machine: isinstance(machine, Machine) and machine.plan.released == 1)


@PATHS.add("loop/schedule: one decision", pure=True)
def _schedule(place: Place) -> Made:
    from edgevla.control.schedule import Answer, Flight, Plan, Schedule, decide

    schedule = Schedule(horizon=32, delay=2, replan=8, survive=2)
    plan, answer = Plan(due=8, grid=8, flight=Flight(0)), Answer(0, 1, True)
    return Made(
        lambda: decide(schedule, plan, 2, answer), lambda found: isinstance(found, tuple) and found[1].release == 0
    )


@PATHS.add("loop/ladder: one rung", pure=True)
def _ladder(place: Place) -> Made:
    from edgevla.control.ladder import Ladder, Phase, Rung, next_rung

    ladder, rung = Ladder(40, 800), Rung(Phase.TRACK, 0)
    return Made(
        lambda: next_rung(ladder, rung, False, False, 9),
        lambda found: isinstance(found, Rung) and found.phase is Phase.SLOW,
    )


@PATHS.add("loop/limiter: 4 channels", pure=True)
def _limiter(place: Place) -> Made:
    from edgevla.control.limiter import track

    limits, (motion, wanted) = sawyer(), start()
    return Made(lambda: track(limits, motion, wanted, PERIOD_S), _moved)


@PATHS.add("loop/limiter: 4 channels, a jump", pure=True)
def _limiter_jump(place: Place) -> Made:
    import numpy as np

    from edgevla.control.limiter import track

    limits, (motion, _) = sawyer(), start()
    far = np.array([0.3, 0.9, 0.4, 1.0])
    return Made(lambda: track(limits, motion, far, PERIOD_S), lambda found: _moved(found) and bool(found[1]))


@PATHS.add("loop/limiter: 7 joints on the target", pure=True)
def _limiter_joints(place: Place) -> Made:
    from edgevla.control.limiter import track

    limits, motion, wanted = seven_joints()
    return Made(lambda: track(limits, motion, wanted, STEP_S), _moved)


@PATHS.add("loop/limiter: 7 joints catching up", pure=True)
def _limiter_behind(place: Place) -> Made:
    from edgevla.control.limiter import track

    limits, motion, wanted = seven_joints()
    return Made(lambda: track(limits, motion, wanted + 0.05, STEP_S), _moved)


@PATHS.add("loop/limiter: 7 joints stopping", pure=True)
def _limiter_stop(place: Place) -> Made:
    from edgevla.control.limiter import slow_down

    limits, motion, _ = seven_joints()
    return Made(lambda: slow_down(limits, motion, STEP_S), _moved)


@PATHS.add("loop/interpolation", pure=True)
def _interpolation(place: Place) -> Made:
    import numpy as np

    from edgevla.control.commands import interpolate

    before, after = start()
    beyond = after + np.float32(0.005)
    return Made(
        lambda: interpolate(before, after.astype(np.float64), beyond, 0.5, PERIOD_S),
        lambda found: isinstance(found, np.ndarray) and bool((found >= before.setpoint - 1e-9).all()),
    )


def _setup() -> Any:
    import numpy as np

    from edgevla.control.commands import Setup, Units
    from edgevla.control.ladder import Ladder
    from edgevla.control.schedule import Schedule

    units = Units(("delta", "delta", "delta", "absolute"), np.array([0.01, 0.01, 0.01, 1.0]), np.zeros(4), PERIOD_S)
    return Setup(Schedule(horizon=32, delay=2, replan=8, survive=2), Ladder(40, 800), sawyer(), units, 5)


@PATHS.add("loop/servo step: goal, limits, float32", pure=True)
def _servo_step(place: Place) -> Made:
    """What lies between the wake-up and `Arm.send` in a step that tracks."""
    import numpy as np

    from edgevla.control.commands import advance, goal
    from edgevla.control.ladder import Phase

    setup, (motion, wanted) = _setup(), start()
    chunk = np.tile(wanted, (32, 1))

    def step() -> Any:
        aim = goal(setup, motion, chunk, 3, 1)
        moved, _ = advance(setup.limits, Phase.TRACK, motion, aim, setup.step_s)
        return moved.setpoint.astype(np.float32)

    return Made(step, lambda found: isinstance(found, np.ndarray) and found.dtype == np.float32)


@PATHS.add("loop/prefix of a request", pure=True)
def _committed(place: Place) -> Made:
    """The commands of the next d ticks, worked out ahead and normalised: once per inference."""
    import numpy as np

    from edgevla.control.commands import committed, normalise
    from edgevla.control.ladder import Phase, Rung
    from edgevla.control.machine import Machine
    from edgevla.control.schedule import Plan

    setup, (motion, wanted) = _setup(), start()
    chunk, machine = np.tile(wanted, (32, 1)), Machine(Plan(chunk=0, due=10_000), Rung(Phase.TRACK))

    def freeze() -> Any:
        rows = committed(setup, machine, motion, motion, chunk, 3)
        return normalise(setup.units, motion.setpoint, rows)

    return Made(freeze, lambda found: isinstance(found, np.ndarray) and found.shape == (2, 4))


def tick_row() -> tuple[Any, ...]:
    """A row of the columns as they are, set-points and states as arrays."""
    import numpy as np

    from edgevla.telemetry.rows import tick_dtype

    zero = np.zeros((), tick_dtype(CHANNELS, STATES))
    return tuple(zero[name].copy() if zero[name].shape else zero[name].item() for name in zero.dtype.names or ())


def _rows(place: Place) -> Any:
    from edgevla.telemetry.rows import Rows, tick_dtype

    rows = Rows.create(tick_dtype(CHANNELS, STATES), 10_000)
    place.stack.callback(rows.close)
    return rows


@PATHS.add("loop/rows: append", pure=True)
def _append(place: Place) -> Made:
    rows, row = _rows(place), tick_row()
    return Made(lambda: rows.append(row), lambda _: rows.count > 0)


def _since(place: Place, behind: int) -> Made:
    rows, row = _rows(place), tick_row()
    for _ in range(200):
        rows.append(row)
    return Made(
        lambda: rows.since(200 - behind),
        lambda found: isinstance(found, tuple) and (len(found[0]), found[2]) == (behind, 0),
    )


@PATHS.add("loop/rows: read 1")
def _since_1(place: Place) -> Made:
    return _since(place, 1)


@PATHS.add("loop/rows: read 100")
def _since_100(place: Place) -> Made:
    return _since(place, 100)


def _ring(place: Place, size: int) -> tuple[Any, bytes]:
    from edgevla.control.shm import Slots

    ring = Slots.create(size)
    place.stack.callback(ring.close)
    return ring, os.urandom(size)


def _add_slots(label: str, size: int) -> None:
    @PATHS.add(f"loop/slots: write {label}")
    def _write(place: Place) -> Made:
        ring, payload = _ring(place, size)
        return Made(lambda: ring.write(payload), lambda sequence: isinstance(sequence, int) and sequence > 0)

    @PATHS.add(f"loop/slots: read {label}")
    def _read(place: Place) -> Made:
        ring, payload = _ring(place, size)
        ring.write(payload)
        return Made(ring.read, lambda entry: entry == (1, payload))


for _label, _size in SLOT_SIZES.items():
    _add_slots(_label, _size)


@PATHS.add("loop/slots: nothing new", pure=True)
def _in_vain(place: Place) -> Made:
    """What the servo does in most steps."""
    ring, _ = _ring(place, 4096)
    seen = ring.write(b"old")
    return Made(lambda: ring.read(seen), lambda entry: entry is None)
