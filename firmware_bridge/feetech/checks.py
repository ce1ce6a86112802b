"""Is a servo the joint of the profile? Pure: what it says of itself against what the profile says."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.arm import Joint, JointInfo
from firmware_bridge.errors import WrongJoint, explain
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.bus import Servo
from firmware_bridge.feetech.models import (
    MODELS,
    MULTI_TURN,
    PHASE_FINE_SPEED,
    PHASE_FULL_ANGLE,
    PHASE_ZERO_IS_FASTEST,
    Register,
)
from firmware_bridge.feetech.options import Options

_SLOW_DELAY_S = 20e-6
_WHEN_HOST_DIES = "no watchdog: keeps its last goal when the host dies"


def require(servo: Servo, joint: Joint, homing_offset: int | None, options: Options) -> None:
    """Raises WrongJoint that names the first thing that differs. `homing_offset` None: not compared."""
    model = MODELS[joint.model]
    low, high = codec.count_range(joint, model)
    series = model.series
    who = f"{joint.name} (id {joint.id})"
    if servo.series is not series or servo.number != model.number:
        todo = "correct the model in the profile, or the ids of the servos (`edgevla bus scan`)"
        raise _wrong(f"{who} is another servo", f"{model.name}, number {model.number}", servo.model, todo)
    if series.homing and servo.byte(Register.MODE) != 0:
        got = f"mode {servo.byte(Register.MODE)} (1 speed, 2 PWM, 3 step)"
        raise _wrong(f"{who} is no position servo now", "mode 0", got, "set register 33 to 0, unlocked")
    if series.homing and (servo.byte(Register.PHASE) & PHASE_FULL_ANGLE or servo.limits == MULTI_TURN):
        got = f"phase {servo.byte(Register.PHASE)}, limits {servo.limits}"
        raise _wrong(f"{who} counts turns", "single turn: phase bit 4 off, limits set", got, "calibrate the arm")
    if homing_offset is not None and servo.homing_offset != homing_offset:
        todo = "this calibration is of another arm or older: `edgevla arm calibrate` again, or with `--from FILE`"
        raise _wrong(f"{who} has another homing offset", f"{homing_offset} counts", servo.homing_offset, todo)
    bottom, top = servo.limits
    if not (bottom - 1 <= low and high <= top + 1):
        todo = "pass the arm's calibration, or make one (`edgevla arm calibrate`), or correct the profile's range"
        got = f"limits in the servo {bottom}..{top} counts"
        raise _wrong(f"{who} does not reach the range of its profile", f"{low}..{high} counts", got, todo)
    fastest = not series.homing or bool(servo.byte(Register.PHASE) & PHASE_ZERO_IS_FASTEST)
    if not fastest and not servo.word(Register.GOAL_SPEED, series) and options.goal_speed is None:
        todo = "set the option goal_speed in the profile, counts/s"
        raise _wrong(f"{who} would not move", "a goal speed: phase bit 3 is off", "goal speed 0", todo)


def speed_unit(servo: Servo) -> int:
    """Counts per second of one unit of PRESENT_SPEED."""
    fine = not servo.series.homing or servo.byte(Register.PHASE) & PHASE_FINE_SPEED
    return 1 if fine else 50


def info(servo: Servo, joint: Joint) -> JointInfo:
    """Its row of the table."""
    model = MODELS[joint.model]
    ends = [joint.to_channel(count / model.counts_per_rad) for count in servo.limits]
    low, high = max(joint.minimum, min(ends)), min(joint.maximum, max(ends))
    return JointInfo(
        name=joint.name,
        id=servo.id,
        model=joint.model,
        firmware=servo.firmware,
        range=(low, high),
        watchdog_s=None,
        return_delay_s=servo.return_delay_s,
        voltage_v=servo.voltage_v,
        temperature_c=servo.temperature_c,
        note=_note(servo, joint),
    )


def _note(servo: Servo, joint: Joint) -> str:
    notes = [_WHEN_HOST_DIES]
    if servo.status:
        notes.append(codec.sentence(servo.status))
    if servo.return_delay_s > _SLOW_DELAY_S:
        notes.append(f"answers {servo.return_delay_s * 1e6:.0f} us late (option return_delay_us)")
    if servo.torque_on:
        notes.append("torque is on")
    if joint.max_effort is not None and not servo.series.homing:
        notes.append("max_effort is not written: this series has no torque limit of its own")
    return "; ".join(notes)


def _wrong(what: str, expected: object, got: object, todo: str) -> WrongJoint:
    return WrongJoint(explain(what, expected, got, todo))


def require_one_series(joints: Sequence[Joint]) -> None:
    """Raises WrongJoint."""
    names = {codec.model_of(joint).series.name for joint in joints}
    if len(names) > 1:
        todo = "put STS and SCS servos on buses of their own: they disagree on the order of bytes"
        raise WrongJoint(explain("two series on one bus", "one series", " and ".join(sorted(names)), todo))
