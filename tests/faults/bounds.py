"""How long the arm may take from a fault to rest, and to the latched stop: formulas over the profile. Pure.

T control period, H horizon, Ts servo period. Every formula ends with two Ts, the largest command gap of the timing
contract: one period overslept and skipped.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevla.control.plan import RunPlan

SUPERVISOR_S = 0.1  # s: the supervisor passes a signal on within two of its looks
DEVICE_S = 0.1  # s: the device confirms a stop


@dataclass(frozen=True)
class Bound:
    """Seconds from the fault to the last command that moves the arm, and to the device's latched stop."""

    formula: str
    rest_s: float
    latched_s: float


def brake_s(plan: RunPlan) -> float:
    """From full speed to rest: v / a, and where jerk is limited the time to build the deceleration up and down."""

    def one(channel: object) -> float:
        stop = getattr(channel, "stop_deceleration")  # noqa: B009
        build = (getattr(channel, "max_acceleration") + stop) / getattr(channel, "max_jerk", float("inf"))  # noqa: B009
        return getattr(channel, "max_velocity") / stop + build  # noqa: B009

    return max(map(one, plan.arm.channels)) + plan.period_s


def chunk_runs_out(plan: RunPlan) -> Bound:
    """No new chunk: the last one, asked for at most at the fault, is finished."""
    rest_s = plan.schedule.horizon * plan.period_s + brake_s(plan) + _gap_s(plan)
    latched_s = rest_s + plan.arm.hold_s + 2 * plan.period_s + DEVICE_S
    return Bound("H T + braking + 2 Ts (+ hold_s + 2 T + answer)", rest_s, latched_s)


def servo_asked(plan: RunPlan) -> Bound:
    """The servo is told to stop: at its next tick it brakes."""
    rest_s = plan.period_s + brake_s(plan) + _gap_s(plan)
    return Bound("T + braking + 2 Ts (+ 2 T + answer)", rest_s, rest_s + 2 * plan.period_s + DEVICE_S)


def supervisor_asked(plan: RunPlan) -> Bound:
    """The supervisor is told to stop, or is gone: it, or the kernel, tells the servo."""
    asked = servo_asked(plan)
    rest_s, latched_s = SUPERVISOR_S + asked.rest_s, SUPERVISOR_S + asked.latched_s
    return Bound(f"{SUPERVISOR_S:g} s + {asked.formula}", rest_s, latched_s)


def watchdog(plan: RunPlan) -> Bound:
    """No command reaches the device: it holds its last set-point at once, and latches when its watchdog runs out."""
    latched_s = (plan.arm.watchdog_s or 0.0) + plan.period_s + _gap_s(plan)
    return Bound("2 Ts (watchdog_s + T + 2 Ts)", _gap_s(plan), latched_s)


def old_inputs(plan: RunPlan) -> Bound:
    """A camera that falls silent: its frame is taken until it is too old, and that chunk is finished."""
    runs_out, age_s = chunk_runs_out(plan), plan.cameras[0].max_age_s
    return Bound("max_age_s + " + runs_out.formula, age_s + runs_out.rest_s, age_s + runs_out.latched_s)


def _gap_s(plan: RunPlan) -> float:
    return 2 * plan.period_s / plan.target.servo_ratio
