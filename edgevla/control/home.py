"""The slow ramp into the start range, without a policy: `edgevla arm home`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgevla.control.clock import Grid, sleep_until
from edgevla.control.limiter import Limits, Motion, limits_of, slow_down, track
from edgevla.errors import DeviceFault, explain
from firmware_bridge.arm import Arm, JointState, Mode
from profiles.model import ArmProfile

PERIOD_S = 0.02
_SHARE = 0.2  # of the profile's velocity and acceleration
_SLOW = {"rad": 0.5, "m": 0.1}  # per second, whatever the profile allows: a person can step back
_SLOW_OTHER = 0.5  # of a gripper's stroke in a second
_SLOW_IN_S = 0.1  # it takes at least as long to get that fast
_INSIDE = 0.1  # of the start range's width: the goal is no nearer to its ends
_NEAR = 1e-4  # channel units, between set-point and goal
_MOST_STEPS = 50_000  # of a ramp that is only reckoned: 1,000 s

Say = Callable[[str, float, str], None]


def home_goal(arm: ArmProfile, held: NDArray[np.floating]) -> NDArray[np.float64]:
    """The nearest point well inside the start range: where it is, if it is there already. (n,), channel units."""
    low, high = np.array(arm.start_low), np.array(arm.start_high)
    margin = _INSIDE * (high - low)
    return np.clip(np.asarray(held, np.float64), low + margin, high - margin)


def gentle(arm: ArmProfile) -> Limits:
    """A fifth of the profile's velocity and acceleration, no faster than `_SLOW`, for a person standing by."""
    limits = limits_of(arm, PERIOD_S)
    slow = np.array([_SLOW.get(channel.unit, _SLOW_OTHER) for channel in arm.channels])
    acceleration = np.minimum(_SHARE * limits.max_acceleration, slow / _SLOW_IN_S)
    return replace(
        limits,
        max_velocity=np.minimum(_SHARE * limits.max_velocity, slow),
        max_acceleration=acceleration,
        stop_deceleration=np.minimum(limits.stop_deceleration, acceleration),
    )


def go_home(link: Arm, arm: ArmProfile, stop_asked: Callable[[], bool], say: Say) -> bool:
    """Ramp a connected, disarmed arm into its start range and latch it there; True when it arrived.

    `stop_asked` ends it within the limits; `say` hears at every step which channel is furthest from its goal, how far,
    and the unit. Raises DeviceFault, BridgeError; the arm is stopped on every way out.
    """
    link.arm()
    try:
        return _ramp(link, arm, stop_asked, say)
    finally:
        link.stop()


def _ramp(link: Arm, arm: ArmProfile, stop_asked: Callable[[], bool], say: Say) -> bool:
    limits, motion, goal = gentle(arm), Motion.at_rest(link.held), home_goal(arm, link.held)
    grid, step, state = Grid(time.monotonic_ns(), round(PERIOD_S * 1e9)), 0, None
    unheard = 0  # steps in a row; what this computer overslept is not the arm's silence
    expiry_ns = round(max(arm.command_ttl_s, 0.5 * PERIOD_S) * 1e9)
    while True:
        due_ns = grid.deadline_ns(step)
        woke_ns = sleep_until(due_ns)
        step = grid.current_step(step, woke_ns)
        heard = link.poll()
        state, unheard = (state, unheard + 1) if heard is None else (heard, 0)
        _require_sound(arm, state, unheard * PERIOD_S if heard is None else (due_ns - heard.stamp_ns) * 1e-9)
        stopping = stop_asked()
        # One period a step, however long it took: after a stall the ramp goes on where it was and does not catch up.
        motion, _ = slow_down(limits, motion, PERIOD_S) if stopping else track(limits, motion, goal, PERIOD_S)
        link.send(motion.setpoint.astype(np.float32), woke_ns + expiry_ns)
        each = _left(motion, goal)
        left, furthest = float(each.max()), arm.channels[int(each.argmax())]
        say(furthest.name, left, furthest.unit)
        if left < _NEAR or (stopping and motion.resting):
            return left < _NEAR
        step += 1


def _require_sound(arm: ArmProfile, state: JointState | None, age_s: float) -> None:
    """Raises DeviceFault when the arm reports a fault, left its mode, or was not heard for too long."""
    if age_s > max(arm.max_state_age_s, 3 * PERIOD_S):
        limit = f"a state of at most {arm.max_state_age_s:g} s"
        got = "none" if state is None else f"{age_s:.3f} s old"
        raise DeviceFault(explain("the arm went silent on its way", limit, got, "check its cable and power"))
    if state is not None and (state.faults or state.mode != Mode.ARMED):
        faults = f"mode {Mode(state.mode).name}, faults {int(state.faults):#x} {state.joint_faults}"
        raise DeviceFault(
            explain("the arm stopped on its way", "mode ARMED, no fault", faults, "see `edgevla arm show`")
        )


def ramp_s(arm: ArmProfile, held: NDArray[np.floating]) -> float:
    """How long `go_home` takes from rest at `held`, s: the same limiter, stepped without waiting (milliseconds)."""
    limits, motion, goal = gentle(arm), Motion.at_rest(held), home_goal(arm, held)
    steps = 0
    while _left(motion, goal).max() >= _NEAR and steps < _MOST_STEPS:
        motion, _ = track(limits, motion, goal, PERIOD_S)
        steps += 1
    return steps * PERIOD_S


def _left(motion: Motion, goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each channel from the goal, channel units."""
    return np.abs(goal - motion.setpoint)
