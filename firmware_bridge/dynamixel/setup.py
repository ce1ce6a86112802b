"""What connecting asks and sets, servo by servo; and the volatile registers, which arming sets again. Torque stays off.

EEPROM is written only where it differs, because it wears out, and never under torque: the servo would refuse, and
switching its torque off would let the arm fall.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from firmware_bridge.arm import Joint, JointInfo
from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.bus import Bus
from firmware_bridge.dynamixel.models import (
    ACCELERATION_RAD_S2,
    BY_NUMBER,
    CURRENT_BASED_POSITION,
    EXTENDED_POSITION,
    NO_SECONDARY,
    POSITION,
    RAD_PER_COUNT,
    VELOCITY_RAD_S,
    WATCHDOG_MOST,
    WATCHDOG_UNIT_S,
    Model,
    Register,
)
from firmware_bridge.dynamixel.options import Options, model_of
from firmware_bridge.errors import (
    ArmRefused,
    BridgeError,
    JointSilent,
    NoAnswer,
    WatchdogMismatch,
    WrongJoint,
    explain,
    or_another_protocol,
)

_DRIVE_BITS = models.REVERSE | models.TIME_PROFILE | models.TORQUE_BY_GOAL  # of Drive Mode(10), that matter here
_FARTHEST_COUNTS = 114  # 10 degrees, between goal and position of a joint that has just been switched on


@dataclass
class Servo:
    """One servo of the bus: a joint's own (`leader` None), or one that shadows the servo `leader`."""

    id: int
    joint: Joint
    index: int  # of the joint
    model: Model
    reverse: bool
    leader: int | None = None
    firmware: int = 0
    mode: int = POSITION
    watchdog: int = 0  # units of 20 ms, 0: none
    indirect: tuple[int, ...] = ()  # what the indirect data shows, byte by byte
    goal_current: int = 0  # units; mode 5 only
    homing: int | None = None  # Homing Offset(20) of its calibration; None: whatever it has
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.joint.name if self.leader is None else f"{self.joint.name} (shadow)"


def servos_of(joints: Sequence[Joint], options: Options, watchdog: int, indirect: tuple[int, ...]) -> list[Servo]:
    """Joints in order, then shadows. Raises BridgeError for an unknown model."""
    turned = options.names(options.reverse)
    firm = options.names(options.current_based)
    servos = []
    for index, joint in enumerate(joints):
        servo = Servo(joint.id, joint, index, model_of(joint), joint.name in turned)
        if joint.name in firm:
            servo.mode = CURRENT_BASED_POSITION
            servo.goal_current = current_of(servo.model, joint.max_effort)
        servos.append(servo)
    for shadow in options.shadow_list:
        leader = next(servo for servo in servos if servo.id == shadow.leader)
        follower = Servo(
            shadow.id, leader.joint, leader.index, leader.model, leader.reverse ^ shadow.mirrored, leader.id
        )
        follower.mode, follower.goal_current = leader.mode, leader.goal_current
        servos.append(follower)
    for servo, homing in zip(servos, options.homing or (None,) * len(servos), strict=True):
        servo.watchdog, servo.indirect, servo.homing = watchdog, indirect, homing
    return servos


def current_of(model: Model, effort_nm: float | None) -> int:
    """Goal Current(102), units, that gives at most `effort_nm`; the stall current without a limit."""
    if effort_nm is None:
        return model.max_current
    return min(model.max_current, math.floor(effort_nm / model.nm_per_unit))


def watchdog_units(watchdog_s: float | None) -> int:
    """Bus Watchdog(98); 0 for none. Raises WatchdogMismatch for what it cannot be set to."""
    if watchdog_s is None:
        return 0
    units = round(watchdog_s / WATCHDOG_UNIT_S)
    if not 1 <= units <= WATCHDOG_MOST or not math.isclose(units * WATCHDOG_UNIT_S, watchdog_s, rel_tol=1e-6):
        expected = f"a multiple of 20 ms, up to {WATCHDOG_MOST * 20} ms"
        todo = "correct watchdog_s in the arm profile"
        raise WatchdogMismatch(explain("bus watchdog of a Dynamixel arm", expected, f"{watchdog_s * 1e3:g} ms", todo))
    return units


# --- connect ----------------------------------------------------------------------------------------------------------


def find(bus: Bus, servos: Sequence[Servo]) -> None:
    """Ping every servo; check model and firmware. Raises NoAnswer, JointSilent, WrongJoint, WatchdogMismatch."""
    answers = {servo.id: _ping(bus, servo.id) for servo in servos}
    silent = [f"{servo.name} (id {servo.id})" for servo in servos if answers[servo.id] is None]
    port = bus.transport.name
    if len(silent) == len(servos):
        todo = "check the arm's power, the cable, the baud rate and the ids of its profile" + or_another_protocol(port)
        raise NoAnswer(explain(f"no servo answers on {port}", f"{len(servos)} answers to a ping", "silence", todo))
    if silent:
        todo = "check the plug between the last servo that answers and the first that does not, and their ids"
        raise JointSilent(explain(f"servos silent on {port}", "an answer of each", ", ".join(silent), todo))
    for servo in servos:
        number, servo.firmware = answers[servo.id] or (0, 0)
        found = BY_NUMBER.get(number)
        if found is not servo.model:
            expected = f"{servo.model.name} (model number {servo.model.number})"
            got = f"{found.name if found else 'an unknown model'} (model number {number})"
            todo = "check ids and wiring, or correct the model in the arm profile"
            raise WrongJoint(explain(f"{servo.name}, id {servo.id} on {port}", expected, got, todo))
        if servo.watchdog and not servo.model.has_watchdog(servo.firmware):
            todo = 'update the firmware with DYNAMIXEL Wizard, or set watchdog_s = "none" and accept that'
            got = f"firmware {servo.firmware}"
            raise WatchdogMismatch(explain(f"bus watchdog of {servo.name}", "firmware 38 or later", got, todo))


def _ping(bus: Bus, servo: int) -> tuple[int, int] | None:
    """(model number, firmware), or None; two tries, because a silent servo costs the patience of each."""
    for _ in range(2):
        answer = bus.try_ask(codec.ping(servo), servo, 3)
        if answer is not None and len(answer.data) == 3:
            return answer.data[0] + (answer.data[1] << 8), answer.data[2]
    return None


def identify(bus: Bus, servo: Servo, options: Options) -> JointInfo:
    """Check and set the EEPROM, set the volatile registers. Raises JointSilent, ArmRefused, WrongJoint."""
    servo.notes = []
    answer_everything(bus, servo.id)
    _require_calibration(bus, servo)
    _choose_mode(bus, servo)
    for register, name, wanted, mask in _eeprom(servo, options):
        _settle(bus, servo, register, name, wanted, mask)
    prepare(bus, servo, options)
    _check_indirect(bus, servo)
    low, high = _range(bus, servo)
    delay = bus.read(servo.id, models.RETURN_DELAY) * models.RETURN_DELAY_UNIT_S
    watchdog_s = bus.read(servo.id, models.BUS_WATCHDOG) * WATCHDOG_UNIT_S if servo.watchdog else None
    voltage = bus.read(servo.id, models.PRESENT_VOLTAGE) * 0.1
    temperature = bus.read(servo.id, models.PRESENT_TEMPERATURE) * 1.0
    error = bus.read(servo.id, models.HARDWARE_ERROR)
    if error:
        servo.notes.append(models.hardware_sentence(error))
    return JointInfo(
        servo.name,
        servo.id,
        servo.model.name,
        str(servo.firmware),
        (low, high),
        watchdog_s,
        delay,
        voltage,
        temperature,
        "; ".join(servo.notes),
    )


def answer_everything(bus: Bus, servo: int) -> None:
    """Status Return Level(68) = 2. At level 0 a servo answers nothing but a ping: it is told before it is asked."""
    bus.try_ask(codec.write(servo, models.STATUS_RETURN, 2), servo, 0)
    if bus.read(servo, models.STATUS_RETURN) != 2:
        bus.write_and_check(servo, models.STATUS_RETURN, 2)


def _require_calibration(bus: Bus, servo: Servo) -> None:
    """Raises WrongJoint for a servo that counts otherwise than when it was calibrated."""
    if servo.homing is None:
        return
    offset, drive = bus.read(servo.id, models.HOMING_OFFSET), bus.read(servo.id, models.DRIVE_MODE)
    if (offset, drive & models.REVERSE) != (servo.homing, int(servo.reverse)):
        expected = f"homing offset {servo.homing} counts, reverse bit {int(servo.reverse)}"
        got = f"{offset} counts, reverse bit {drive & models.REVERSE}"
        todo = "this calibration is of another arm or older: `edgevla arm calibrate` again, or with `--from FILE`"
        raise WrongJoint(explain(f"calibration of {servo.name} (id {servo.id})", expected, got, todo))


def drive_mode(servo: Servo, found: int) -> int:
    """Drive Mode(10) as the profile wants it; other bits as they are."""
    return found & ~_DRIVE_BITS & 0xFF | (models.REVERSE if servo.reverse else 0)


def _choose_mode(bus: Bus, servo: Servo) -> None:
    """Mode 3 keeps to the servo's own position limits; 4 where the range or the homing offset does not fit into it."""
    if servo.mode == CURRENT_BASED_POSITION:
        servo.notes.append(f"current-based position, {servo.goal_current} units of current at most")
        return
    offset = bus.read(servo.id, models.HOMING_OFFSET)
    low, high = servo.joint.device_range_rad
    turn = (models.COUNTS_PER_TURN - 1) * RAD_PER_COUNT
    fits = low >= -0.5 * RAD_PER_COUNT and high <= turn + 0.5 * RAD_PER_COUNT
    servo.mode = POSITION if fits and abs(offset) <= models.HOMING_OF_POSITION_MODE else EXTENDED_POSITION
    if servo.mode == EXTENDED_POSITION:
        servo.notes.append("extended position mode: the servo itself has no position limits")


def _eeprom(servo: Servo, options: Options) -> list[tuple[Register, str, int, int]]:
    """(register, its name, wanted value, the bits that matter)."""
    drive = models.REVERSE if servo.reverse else 0
    rows = [
        (models.RETURN_DELAY, "return delay", options.return_delay_us // 2, 0xFF),
        (models.DRIVE_MODE, "drive mode", drive, _DRIVE_BITS),
        (models.OPERATING_MODE, "operating mode", servo.mode, 0xFF),
        (models.SECONDARY_ID, "secondary id", NO_SECONDARY if servo.leader is None else servo.leader, 0xFF),
    ]
    if servo.model.has_startup(servo.firmware):
        rows.append((models.STARTUP, "startup configuration", 0, models.STARTUP_TORQUE | models.RAM_RESTORE))
    return rows


def _settle(bus: Bus, servo: Servo, register: Register, name: str, wanted: int, mask: int) -> None:
    found = bus.read(servo.id, register)
    if found & mask == wanted or (register is models.SECONDARY_ID and min(found, wanted) > codec.MOST_ID):
        return
    if bus.read(servo.id, models.TORQUE):
        todo = "support the arm, disarm it or cut its power, then connect again"
        got = f"{found}, and torque is on: the servo locks this register"
        raise WrongJoint(explain(f"{name} of {servo.name} (id {servo.id})", wanted, got, todo))
    value = found & ~mask & 0xFF | wanted
    bus.write_and_check(servo.id, register, value)
    servo.notes.append(f"{name} set from {found} to {value}")


def _range(bus: Bus, servo: Servo) -> tuple[float, float]:
    """Set-points that reach the joint, channel units. Raises WrongJoint where the servo's limits cut the profile's."""
    joint = servo.joint
    if servo.mode != POSITION:
        return joint.minimum, joint.maximum
    low, high = bus.read(servo.id, models.MIN_POSITION), bus.read(servo.id, models.MAX_POSITION)
    wanted = [round(end / RAD_PER_COUNT) for end in joint.device_range_rad]
    if not (low <= wanted[0] and wanted[1] <= high):
        todo = "calibrate again, or narrow the channel in the arm profile: it ignores goals outside without a word"
        expected = f"at most {wanted[0]} .. at least {wanted[1]} counts, the profile's range"
        raise WrongJoint(
            explain(f"position limits of {servo.name} (id {servo.id})", expected, f"{low} .. {high}", todo)
        )
    return joint.minimum, joint.maximum


# --- volatile registers -----------------------------------------------------------------------------------------------


def prepare(bus: Bus, servo: Servo, options: Options) -> None:
    """Everything that a restart forgets, and a watchdog that has run out. Raises JointSilent, ArmRefused."""
    if servo.model.has_watchdog(servo.firmware):
        bus.write_and_check(servo.id, models.BUS_WATCHDOG, 0)
    bus.write(servo.id, models.PROFILE_ACCELERATION, round(options.profile_acceleration_rad_s2 / ACCELERATION_RAD_S2))
    bus.write(servo.id, models.PROFILE_VELOCITY, round(options.profile_velocity_rad_s / VELOCITY_RAD_S))
    if servo.mode == CURRENT_BASED_POSITION:
        bus.write_and_check(servo.id, models.GOAL_CURRENT, servo.goal_current)
    _map_indirect(bus, servo)
    if servo.watchdog:
        bus.write_and_check(servo.id, models.BUS_WATCHDOG, servo.watchdog)


def _map_indirect(bus: Bus, servo: Servo) -> None:
    if not servo.indirect:
        return
    first, size = models.INDIRECT_ADDRESS.address, 2 * len(servo.indirect)
    wanted = b"".join(address.to_bytes(2, "little") for address in servo.indirect)
    if bus.ask(codec.read(servo.id, first, size), servo.id, size).data != wanted:
        for i, address in enumerate(servo.indirect):
            bus.write(servo.id, Register(first + 2 * i, 2), address)
    if (found := bus.ask(codec.read(servo.id, first, size), servo.id, size).data) != wanted:
        todo = 'update the firmware, or set read = "motion" in [options]'
        raise ArmRefused(explain(f"indirect addresses of servo {servo.id}", wanted.hex(), found.hex(), todo))


def _check_indirect(bus: Bus, servo: Servo) -> None:
    """The table of models says where the indirect data lies; the servo's own voltage-free registers prove it."""
    if not servo.indirect:
        return
    at = servo.model.indirect_data(servo.firmware)
    data = bus.ask(codec.read(servo.id, at, len(servo.indirect)), servo.id, len(servo.indirect)).data
    shown = data[servo.indirect.index(models.PRESENT_TEMPERATURE.address)]
    temperature = bus.read(servo.id, models.PRESENT_TEMPERATURE)
    if abs(shown - temperature) > 2:
        todo = 'set read = "motion" in [options], and tell us model and firmware'
        got = f"{shown} at {at}, firmware {servo.firmware}"
        raise WrongJoint(explain(f"indirect data of {servo.name}", f"its temperature, {temperature} C", got, todo))


# --- torque -----------------------------------------------------------------------------------------------------------


def refuse_broken(bus: Bus, servo: Servo) -> None:
    """Raises ArmRefused for a servo with a hardware error: only a reboot clears it, and that is the user's decision."""
    error = bus.read(servo.id, models.HARDWARE_ERROR)
    if error:
        todo = "remove the cause, support the arm, then reboot() that servo or power-cycle the arm"
        got = models.hardware_sentence(error)
        raise ArmRefused(explain(f"{servo.name} (id {servo.id}) cannot be armed", "no hardware error", got, todo))


def torque_on(bus: Bus, servo: Servo, goal: int) -> int:
    """Goal first, then torque; the goal that the servo holds now. Raises JointSilent, ArmRefused.

    With torque the servo itself takes its present position for a goal: a joint that sinks is caught where it is.
    """
    bus.write(servo.id, models.GOAL_POSITION, goal)
    bus.write_and_check(servo.id, models.TORQUE, 1)
    kept, present = bus.read(servo.id, models.GOAL_POSITION), bus.read(servo.id, models.PRESENT_POSITION)
    if abs(kept - present) > _FARTHEST_COUNTS:
        bus.write(servo.id, models.TORQUE, 0)
        todo = "support the joint while it is armed"
        got = f"goal {kept}, position {present} counts"
        raise ArmRefused(explain(f"{servo.name} (id {servo.id}) does not hold where it is", "one place", got, todo))
    return kept


def torque_off(bus: Bus, servo: Servo) -> bool:
    """True when the servo confirmed it."""
    try:
        bus.write_and_check(servo.id, models.TORQUE, 0)
    except BridgeError:
        return False
    return True
