"""A chain of Dynamixel servos on one bus, byte-true: `make` starts them with the factory's settings.

Options are those of the profile's `[options]` (which joints are mounted reversed, which servos are shadows), and:

    firmware  = 52                  of every servo; default: 52 for X330, 46 for the others
    registers = "2.9=0, 2.48=3000"  SERVO.ADDRESS=VALUE, before the first power-up

Not modelled: the servo's own profile generator, gains, the slower answers at a long return delay between servos.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from firmware_bridge.arm import Joint
from firmware_bridge.config import Option
from firmware_bridge.dynamixel import codec, models, options
from firmware_bridge.dynamixel.codec import ALERT, BROADCAST, Decoder, Status
from firmware_bridge.dynamixel.models import RAD_PER_COUNT, Register
from firmware_bridge.dynamixel.virtual_servo import ACCESS, OK, VirtualServo
from firmware_bridge.errors import BridgeError, explain
from firmware_bridge.virtual.device import Reply, joint_of
from firmware_bridge.virtual.plant import JointPlant

FAULTS = {"voltage": 0x01, "overheat": 0x04, "encoder": 0x08, "shock": 0x10, "overload": 0x20}


class DynamixelDevice:
    """All servos of one bus behind `plant`, whose joints are those of the profile."""

    def __init__(self, servos: Sequence[VirtualServo], plant: JointPlant) -> None:
        self.plant, self.servos = plant, list(servos)
        self._decoder = Decoder()
        self._on = True
        self.counts = {"instructions": 0, "junk": 0, "goals": 0, "refused": 0, "watchdog": 0, "fighting": 0}
        self._show()
        for servo in self.servos:
            servo.boot()

    # --- Device ---------------------------------------------------------------------------------------------------

    def feed(self, data: bytes, now_us: int) -> list[Reply]:
        """Answers come from the registers as the last `tick` left them: a servo samples at its own rate, too."""
        if not self._on:
            return []
        replies: list[Reply] = []
        for unit in self._decoder.feed(data):
            if unit[7] == codec.STATUS:
                continue  # another servo's answer
            self.counts["instructions"] += 1
            for servo in self.servos:
                servo.heard_us = now_us
            body = unit[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            replies += self._answer(unit[4], body[0], body[1:])
        self.counts["junk"], self._decoder.junk = self.counts["junk"] + self._decoder.junk, 0
        return replies

    def tick(self, now_us: int) -> list[Reply]:
        if self._on:
            self.counts["watchdog"] += sum(servo.watch(now_us) for servo in self.servos)
            self._push()
        self.plant.run_to(now_us)
        self._show()
        return []

    def power(self, on: bool, now_us: int) -> None:
        self.tick(now_us)
        if on and not self._on:
            for servo in self.servos:
                servo.boot()
                servo.heard_us = now_us
        self._on = on
        self._decoder = Decoder()
        self.plant.torque_on[:] = False

    def fault(self, joint: int, name: str) -> None:
        joint_of(joint, self.plant.position.tolist())
        if name not in FAULTS:
            raise ValueError(f"a Dynamixel knows {', '.join(FAULTS)}, not {name}")
        next(servo for servo in self.servos if servo.joint == joint).fail(FAULTS[name])

    def report(self) -> Mapping[str, object]:
        registers = (models.TORQUE, models.BUS_WATCHDOG, models.GOAL_POSITION, models.OPERATING_MODE, models.DRIVE_MODE)
        state = {s.id: [s.get(register) for register in registers] for s in self.servos}
        return {**self.counts, "torque_watchdog_goal_mode_drive": state}

    # --- plant ----------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        """The servos of a joint pull at one shaft: the mean of their goals, the sum of what they can."""
        plant = self.plant
        for joint in range(len(plant.position)):
            pulling = [servo for servo in self.servos if servo.joint == joint and servo.torque_on]
            plant.torque_on[joint] = bool(pulling)
            if pulling:
                goals = [servo.goal_counts() for servo in pulling]
                plant.target[joint] = sum(goals) / len(goals) * RAD_PER_COUNT
                plant.limit[joint] = sum(servo.limit_nm for servo in pulling)
                self.counts["fighting"] += max(goals) - min(goals) > 100

    def _show(self) -> None:
        positions = np.round(self.plant.position / RAD_PER_COUNT).astype(int).tolist()
        velocities, efforts = self.plant.velocity.tolist(), self.plant.effort.tolist()
        for servo in self.servos:
            joint = servo.joint
            sharing = sum(s.joint == joint and s.torque_on for s in self.servos)
            effort = efforts[joint] / sharing if servo.torque_on else 0.0
            servo.show(positions[joint], velocities[joint], effort)

    # --- instructions ---------------------------------------------------------------------------------------------

    def _answer(self, to: int, instruction: int, body: bytes) -> list[Reply]:
        if instruction in (codec.SYNC_READ, codec.FAST_SYNC_READ, codec.BULK_READ, codec.FAST_BULK_READ):
            fast = instruction in (codec.FAST_SYNC_READ, codec.FAST_BULK_READ)
            asked = _bulk(body) if instruction in (codec.BULK_READ, codec.FAST_BULK_READ) else _sync(body)
            return self._read_many(list(asked), fast) if to == BROADCAST else []
        if instruction == codec.SYNC_WRITE:
            self._sync_write(body)
            return []
        replies = []
        for servo in sorted(self.servos, key=lambda s: s.id):
            own = to in (servo.id, BROADCAST)
            if own or servo.table[models.SECONDARY_ID.address] == to:
                answer = self._single(servo, instruction, body, own)
                if answer is not None and (to != BROADCAST or instruction == codec.PING):
                    replies.append(self._reply(servo, codec.status(*answer)))
        return replies

    def _single(self, servo: VirtualServo, instruction: int, body: bytes, own: bool) -> Status | None:
        """What one servo says to an instruction for it alone; None: nothing. Only its own id reaches its EEPROM."""
        level, data, error = servo.table[models.STATUS_RETURN.address], b"", OK
        if instruction == codec.PING:
            return self._status(servo, OK, servo.read(0, 2) + servo.read(6, 1)) if own else None  # type: ignore[operator]
        if instruction == codec.READ and len(body) == 4:
            found = servo.read(*struct.unpack("<HH", body))
            data, error = (found, OK) if found is not None else (b"", ACCESS)
            level += 1  # from level 1 on
        elif instruction == codec.WRITE and len(body) > 2:
            address = body[0] + (body[1] << 8)
            error = self._write(servo, address, body[2:]) if own or address >= models.EEPROM_END else ACCESS
        elif instruction == codec.REBOOT:
            servo.boot()
        else:
            error = 2
        return self._status(servo, error, data) if own and level >= 2 else None

    def _write(self, servo: VirtualServo, address: int, data: bytes) -> int:
        error = servo.write(address, data)
        self.counts["refused"] += error != OK
        self.counts["goals"] += error == OK and address == models.GOAL_POSITION.address
        return error

    def _sync_write(self, body: bytes) -> None:
        address, length = struct.unpack_from("<HH", body) if len(body) >= 4 else (0, 0)
        values = {body[at]: body[at + 1 : at + 1 + length] for at in range(4, len(body), length + 1)}
        for servo in self.servos:
            own = values.get(servo.id)
            followed = values.get(servo.table[models.SECONDARY_ID.address]) if address >= models.EEPROM_END else None
            data = own if own is not None else followed
            if data is not None and len(data) == length:
                self._write(servo, address, data)

    def _read_many(self, asked: list[tuple[int, int, int]], fast: bool) -> list[Reply]:
        if sum(length + 11 for _, _, length in asked) > codec.LONGEST:
            return []
        by_id = {servo.id: servo for servo in self.servos}
        answers: list[tuple[VirtualServo, Status]] = []
        for wanted, address, length in asked:
            servo = by_id.get(wanted)
            data = servo.read(address, length) if servo is not None else None
            able = servo is not None and (not fast or servo.model.reads_fast(servo.firmware))
            if servo is None or data is None or not able or servo.table[models.STATUS_RETURN.address] < 1:
                if fast:  # those behind it wait for its block
                    break
                continue
            answers.append((servo, self._status(servo, OK, data)))
        if not fast:
            return [self._reply(s, codec.status(*answer), i + 1) for i, (s, answer) in enumerate(answers)]
        silent = [Status(wanted, 0, bytes(length)) for wanted, _, length in asked[len(answers) :]]
        pieces = codec.fast_status([answer for _, answer in answers] + silent)
        return [self._reply(s, piece) for (s, _), piece in zip(answers, pieces, strict=False)]

    def _status(self, servo: VirtualServo, error: int, data: bytes) -> Status:
        return Status(servo.id, error | (ALERT if servo.table[models.HARDWARE_ERROR.address] else 0), data)

    @staticmethod
    def _reply(servo: VirtualServo, data: bytes, place: int = 1) -> Reply:
        return Reply(data, place * 2 * servo.table[models.RETURN_DELAY.address], servo.joint)


def _sync(body: bytes) -> Iterator[tuple[int, int, int]]:
    if len(body) >= 4:
        address, length = struct.unpack_from("<HH", body)
        yield from ((servo, address, length) for servo in body[4:])


def _bulk(body: bytes) -> Iterator[tuple[int, int, int]]:
    for at in range(0, len(body) - 4, 5):
        yield struct.unpack_from("<BHH", body, at)


def make(joints: Sequence[Joint], plant: JointPlant, asked: Mapping[str, Option]) -> DynamixelDevice:
    """Raises BridgeError."""
    own = {key: value for key, value in asked.items() if key in ("firmware", "registers")}
    parsed = options.parse({key: value for key, value in asked.items() if key not in own}, joints)
    turned = parsed.names(parsed.reverse)

    def servo_at(servo: int, index: int, right_drive: int) -> VirtualServo:
        model = options.model_of(joints[index])
        firmware = int(own.get("firmware", 52 if model.family == "330" else 46))
        return VirtualServo(servo, model, firmware, index, right_drive)

    servos = [servo_at(joint.id, i, int(joint.name in turned)) for i, joint in enumerate(joints)]
    index_of = {joint.id: i for i, joint in enumerate(joints)}
    for shadow in parsed.shadow_list:
        index = index_of[shadow.leader]
        servos.append(servo_at(shadow.id, index, int(joints[index].name in turned) ^ shadow.mirrored))
    _preset(servos, str(own.get("registers", "")))
    return DynamixelDevice(servos, plant)


def _preset(servos: Sequence[VirtualServo], text: str) -> None:
    by_id = {servo.id: servo for servo in servos}
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            where, value = part.split("=")
            servo, address = (int(number) for number in where.split("."))
            known = [register for register in vars(models).values() if isinstance(register, Register)]
            register = next(r for r in known if r.address == address)
            by_id[servo].set(register, int(value))
        except (ValueError, KeyError, StopIteration, OverflowError):
            todo = 'write "SERVO.ADDRESS=VALUE", a register of models.py'
            raise BridgeError(explain("registers of a virtual Dynamixel", todo, part, todo)) from None
