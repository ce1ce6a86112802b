"""The prefix an inference is told is exactly what the servo then sends."""

import numpy as np
import pytest

from edgevla.control.commands import Units, committed, interpolate, normalise, wanted_row
from edgevla.control.ladder import Control, Ladder, Phase, advance
from edgevla.control.limiter import Limits, Motion
from edgevla.control.schedule import Plan, Schedule

T = 0.0125  # s
LADDER = Ladder(hold_ticks=40, torque_ticks=800)
UNITS = Units(("delta", "absolute"), np.array([0.01, 1.0]), np.zeros(2), T)
LIMITS = Limits(
    minimum=np.array([-0.5, -1.0]),
    maximum=np.array([0.5, 1.0]),
    max_velocity=np.array([0.8, 160.0]),
    max_acceleration=np.array([128.0, 25600.0]),
    max_jerk=np.array([20480.0, 4096000.0]),
    stop_deceleration=np.array([8.0, 25600.0]),
    step_s=0.0125,
)


@pytest.mark.parametrize("horizon_left", [0, 1, 2, 5, 20])
def test_the_committed_prefix_is_what_is_commanded_afterwards_even_when_the_chunk_runs_out(horizon_left):
    schedule = Schedule(32, 6, 8, 2)
    rng = np.random.default_rng(horizon_left)
    chunk = np.cumsum(rng.uniform(-0.02, 0.02, (32, 2)), axis=0).astype(np.float32)  # faster than the limit
    tick = 32 - horizon_left
    plan = Plan(chunk=0)
    control = Control(Motion(np.array([0.1, 0.0]), np.array([0.5, 0.0]), np.zeros(2)), Phase.TRACK)
    control, _ = advance(LIMITS, LADDER, control, wanted_row(schedule, plan, chunk, tick), tick, T)
    prefix = committed(schedule, LIMITS, LADDER, control, plan, chunk, tick, T)
    sent = [control.motion.setpoint.astype(np.float32)]
    for later in range(tick + 1, tick + 6):
        control, _ = advance(LIMITS, LADDER, control, wanted_row(schedule, plan, chunk, later), later, T)
        sent.append(control.motion.setpoint.astype(np.float32))
    assert prefix.shape == (6, 2)
    assert (prefix == np.array(sent)).all()


def test_a_held_arm_gives_a_prefix_of_no_motion():
    held = np.array([[0.1, -1.0]] * 3)
    assert (normalise(UNITS, held[0], held) == np.array([[0.0, -1.0]] * 3, np.float32)).all()


def test_deltas_count_from_the_command_of_the_tick_before():
    rows = np.array([[0.01, 1.0], [0.03, -1.0]])
    assert np.allclose(normalise(UNITS, np.array([0.0, 0.0]), rows), [[1.0, 1.0], [2.0, -1.0]])


def test_a_velocity_channel_is_normalised_by_the_period():
    units = Units(("velocity",), np.array([0.8]), np.zeros(1), T)
    assert np.allclose(normalise(units, np.array([0.0]), np.array([[0.01]])), [[1.0]])


def test_servo_steps_lie_on_a_line_and_the_last_is_the_tick_itself():
    before, after = np.float32([0.0, 1.0]), np.float32([0.3, 0.0])
    steps = [interpolate(before, after, i, 3) for i in range(3)]
    assert np.allclose(steps, [[0.1, 2 / 3], [0.2, 1 / 3], [0.3, 0.0]])
    assert (steps[2] == after).all()
    assert (interpolate(before, after, 0, 1) == after).all()
