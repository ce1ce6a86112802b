"""The prefix an inference is told is exactly what the servo then sends."""

import numpy as np
import pytest

import profiles
from edgevla.control.commands import Setup, Units, advance, committed, goal, interpolate, ladder_of, normalise
from edgevla.control.ladder import Ladder, Phase, Rung
from edgevla.control.limiter import Motion, limits_of, track
from edgevla.control.machine import Inputs, Machine, step
from edgevla.control.schedule import Plan, Schedule

T = 0.0125  # s
UNITS = Units(("delta", "absolute"), np.array([0.01, 1.0]), np.zeros(2), T)
LIMITS = limits_of(profiles.load_arm("metaworld-sawyer"), T)
HELD = np.array([0.1, 0.6, 0.2, -1.0])


def moving(ticks=6):
    """A motion in the middle of its way: tracked for some ticks from rest."""
    motion = Motion.at_rest(HELD)
    for i in range(ticks):
        motion, _ = track(LIMITS, motion, HELD + 0.005 * (i + 1), T)
    return motion


@pytest.mark.parametrize("ratio", [1, 3])
@pytest.mark.parametrize("horizon_left", [0, 1, 2, 5, 20])
def test_the_committed_prefix_is_what_is_commanded_afterwards_even_when_the_chunk_runs_out(horizon_left, ratio):
    setup = Setup(Schedule(32, 6, 8, 2), Ladder(40, 800), LIMITS, UNITS, ratio)
    rng = np.random.default_rng(horizon_left)
    chunk = (HELD + np.cumsum(rng.uniform(-0.02, 0.02, (32, 4)), axis=0)).astype(np.float32)  # faster than the limit
    first, motion = 32 - horizon_left, moving()
    machine = Machine(Plan(chunk=0, due=10_000), Rung(Phase.TRACK))
    sent, prefix = [], None
    for tick in range(first, first + 6):
        machine, decision = step(setup.schedule, setup.ladder, machine, tick, Inputs(resting=motion.resting))
        before = motion
        for part in range(ratio):
            wanted = goal(setup, before, chunk, decision.row, part)
            motion, _ = advance(setup.limits, machine.phase, motion, wanted, setup.step_s)
            if prefix is None:
                prefix = committed(setup, machine, motion, before, chunk, tick)
        sent.append(motion.setpoint.astype(np.float32))
    assert prefix.shape == (6, 4)
    assert (prefix == np.array(sent)).all()


def test_a_phase_without_motion_holds_the_last_command():
    for phase in (Phase.DISARMED, Phase.START, Phase.HOLD, Phase.LATCHED, Phase.TORQUE):
        motion, hit = advance(LIMITS, phase, moving(), HELD + 0.1, T)
        assert (motion.setpoint == moving().setpoint).all()
        assert motion.resting
        assert not hit


def test_a_chunk_that_ran_out_stops_the_arm_within_its_deceleration():
    motion, positions = moving(), []
    while not motion.resting:
        motion, _ = advance(LIMITS, Phase.SLOW, motion, None, T)
        positions.append(motion.setpoint[0])
        assert len(positions) < 40
    assert (np.diff(positions) >= -1e-9).all()


def test_the_waits_of_the_ladder_are_counted_in_ticks():
    assert ladder_of(0.5, 10.0, T) == Ladder(40, 800)


def test_a_held_arm_gives_a_prefix_of_no_motion():
    held = np.array([[0.1, -1.0]] * 3)
    assert (normalise(UNITS, held[0], held) == np.array([[0.0, -1.0]] * 3, np.float32)).all()


def test_deltas_count_from_the_command_of_the_tick_before():
    rows = np.array([[0.01, 1.0], [0.03, -1.0]])
    assert np.allclose(normalise(UNITS, np.array([0.0, 0.0]), rows), [[1.0, 1.0], [2.0, -1.0]])


def test_a_velocity_channel_is_normalised_by_the_period():
    units = Units(("velocity",), np.array([0.8]), np.zeros(1), T)
    assert np.allclose(normalise(units, np.array([0.0]), np.array([[0.01]])), [[1.0]])


def test_the_last_servo_step_of_a_tick_is_its_row_exactly():
    chunk = np.float32([[0.0, 0.6, 0.2, -1.0], [0.3, 0.6, 0.2, 1.0]])
    setup = Setup(Schedule(32, 2, 8, 2), Ladder(40, 800), LIMITS, UNITS, 3)
    assert (goal(setup, Motion.at_rest(HELD), chunk, 1, 2) == chunk[1]).all()
    assert goal(setup, Motion.at_rest(HELD), chunk, None, 2) is None


def test_between_rows_of_constant_speed_lies_a_straight_line():
    speed = np.full(4, 0.4)
    before = Motion(HELD, speed, np.zeros(4))
    after = HELD + speed * T
    for share in (0.25, 0.5, 0.75):
        found = interpolate(before, after, (after + speed * T).astype(np.float32), share, T)
        assert np.allclose(found, HELD + share * speed * T, atol=1e-6)


def test_rows_that_turn_are_not_overshot_and_the_velocity_is_continuous():
    before = Motion(HELD, np.full(4, 0.4), np.zeros(4))
    after = HELD + 0.005
    shares = np.linspace(0.001, 1.0, 500)
    path = np.array([interpolate(before, after, (after - 0.005).astype(np.float32), share, T)[0] for share in shares])
    assert path.max() <= after[0] + 1e-12
    assert np.diff(path)[0] / (np.diff(shares)[0] * T) == pytest.approx(0.4, rel=0.02)  # goes on as it was
    assert abs(np.diff(path)[-1] / (np.diff(shares)[0] * T)) < 0.01  # and turns at the row
