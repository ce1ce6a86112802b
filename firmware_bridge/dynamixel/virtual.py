"""A chain of Dynamixel servos on one bus, byte-true: `make` starts them with the factory's settings.

Options are those of the profile's `[options]` (which joints are mounted reversed, which servos are shadows), and:

    firmware  = 52                  of every servo; default: 52 for X330, 46 for the others
    registers = "2.9=0, 2.48=3000"  SERVO.ADDRESS=VALUE, before the first power-up

Not modelled: the servo's own profile generator, gains, the slower answers at a long return delay between servos.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from firmware_bridge.arm import Joint
from firmware_bridge.config import Option
from firmware_bridge.dynamixel import codec, models, options
from firmware_bridge.dynamixel.codec import BROADCAST, STUFF, STUFFED, Decoder, Status
from firmware_bridge.dynamixel.models import RAD_PER_COUNT, Register
from firmware_bridge.dynamixel.question import READS, Question, question_of
from firmware_bridge.dynamixel.virtual_servo import ACCESS, OK, VirtualServo
from firmware_bridge.errors import BridgeError, explain
from firmware_bridge.virtual.device import Reply, joint_of
from firmware_bridge.virtual.plant import JointPlant

_EACH_GOAL = struct.Struct("<Bi")  # of a sync write: id, Goal Position(116)
_GOALS_HEAD = struct.pack("<HH", models.GOAL_POSITION.address, models.GOAL_POSITION.size)
_MOST_QUESTIONS = 64  # that are known by heart
FAULTS = {"voltage": 0x01, "overheat": 0x04, "encoder": 0x08, "shock": 0x10, "overload": 0x20}


class Said(NamedTuple):
    """What the answers to a question depend on: the same of it, the same bytes."""

    question: Question
    ticks: int  # what is measured changes in a tick only
    changes: int  # of registers
    goals: int  # written; 0 where goals are not read


class DynamixelDevice:
    """All servos of one bus behind `plant`, whose joints are those of the profile."""

    def __init__(self, servos: Sequence[VirtualServo], plant: JointPlant) -> None:
        self.plant, self.servos = plant, list(servos)
        self._at = [[servo for servo in servos if servo.joint == joint] for joint in range(len(plant.position))]
        self._decoder = Decoder()
        self._on = True
        self._questions: dict[bytes, Question] = {}
        self._ticks = 0
        self._said: Said | None = None  # when a question was answered last
        self._replies: list[Reply] = []  # and how
        self._pushed = (-1, -1)  # changes of registers and goals when the plant was told last
        self._fighting = 0  # joints whose servos have goals apart
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
            replies += self._answer(unit)
        self.counts["junk"], self._decoder.junk = self.counts["junk"] + self._decoder.junk, 0
        return replies

    def tick(self, now_us: int) -> list[Reply]:
        if self._on:
            self.counts["watchdog"] += sum(servo.watch(now_us) for servo in self.servos)
            self._push()
        self.plant.run_to(now_us)
        self._show()
        self._ticks += 1
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
        self._pushed = (-1, -1)

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

    def _changes(self) -> int:
        return sum([servo.changes for servo in self.servos])

    def _goals(self) -> int:
        return sum([servo.goals for servo in self.servos])

    def _push(self) -> None:
        """The servos of a joint pull at one shaft: the mean of their goals, the sum of what they can."""
        now = self._changes(), self._goals()
        if now != self._pushed:
            self._pushed, self._fighting, plant = now, 0, self.plant
            targets, limits, on = plant.target.tolist(), plant.limit.tolist(), []
            for joint, servos in enumerate(self._at):
                pulling = [servo for servo in servos if servo.torque_on]
                on.append(bool(pulling))
                if pulling:
                    goals = [servo.goal_counts() for servo in pulling]
                    targets[joint] = sum(goals) / len(goals) * RAD_PER_COUNT
                    limits[joint] = sum([servo.limit_nm for servo in pulling])
                    self._fighting += max(goals) - min(goals) > 100
            plant.torque_on[:], plant.target[:], plant.limit[:] = on, targets, limits
        self.counts["fighting"] += self._fighting

    def _show(self) -> None:
        plant = self.plant
        moved = zip(self._at, plant.position.tolist(), plant.velocity.tolist(), plant.effort.tolist(), strict=True)
        for servos, position, velocity, effort in moved:
            counts = round(position / RAD_PER_COUNT)
            sharing = sum([servo.torque_on for servo in servos])
            for servo in servos:
                servo.show(counts, velocity, effort / sharing if servo.torque_on else 0.0)

    # --- instructions ---------------------------------------------------------------------------------------------

    def _answer(self, unit: bytes) -> list[Reply]:
        question = self._questions.get(unit)
        if question is None:
            body = unit[7:-2].replace(STUFFED, STUFF)
            if body[0] not in READS:
                return self._obey(unit[4], body[0], body[1:])
            if len(self._questions) >= _MOST_QUESTIONS:
                self._questions.clear()
            question = self._questions[unit] = question_of(unit[4], body[0], body[1:])
        return self._read_many(question)

    def _obey(self, to: int, instruction: int, body: bytes) -> list[Reply]:
        if instruction == codec.SYNC_WRITE:
            self._sync_write(body)
            return []
        replies = []
        for servo in sorted(self.servos, key=lambda s: s.id):
            own = to in (servo.id, BROADCAST)
            if own or servo.secondary == to:
                answer = self._single(servo, instruction, body, own)
                if answer is not None and (to != BROADCAST or instruction == codec.PING):
                    replies.append(self._reply(servo, codec.status(*answer)))
        return replies

    def _single(self, servo: VirtualServo, instruction: int, body: bytes, own: bool) -> Status | None:
        """What one servo says to an instruction for it alone; None: nothing. Only its own id reaches its EEPROM."""
        level, data, error = servo.level, b"", OK
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
        if body.startswith(_GOALS_HEAD) and len(body) % 5 == 4:
            self._take_goals(dict(_EACH_GOAL.iter_unpack(body[4:])))
            return
        address, length = struct.unpack_from("<HH", body) if len(body) >= 4 else (0, 0)
        values = {body[at]: body[at + 1 : at + 1 + length] for at in range(4, len(body), length + 1)}
        for servo in self.servos:
            data = values.get(servo.id)
            if data is None and address >= models.EEPROM_END:
                data = values.get(servo.secondary)
            if data is not None and len(data) == length:
                self._write(servo, address, data)

    def _take_goals(self, goals: dict[int, int]) -> None:
        for servo in self.servos:
            goal = goals.get(servo.id, goals.get(servo.secondary))
            if goal is None:
                continue
            if servo.take_goal(goal):
                self.counts["goals"] += 1
            else:
                self._write(servo, models.GOAL_POSITION.address, goal.to_bytes(4, "little", signed=True))

    def _read_many(self, question: Question) -> list[Reply]:
        said = Said(question, self._ticks, self._changes(), 0 if question.measured else self._goals())
        if said != self._said:
            self._said, self._replies = said, self._answers(question)
        return self._replies

    def _answers(self, question: Question) -> list[Reply]:
        by_id = {servo.id: servo for servo in self.servos}
        answers: list[tuple[VirtualServo, Status]] = []
        for wanted, address, length in question.asked:
            servo = by_id.get(wanted)
            data = servo.read(address, length) if servo is not None and servo.answers(question.fast) else None
            if servo is None or data is None:
                if question.fast:  # those behind it wait for its block
                    break
                continue
            answers.append((servo, self._status(servo, OK, data)))
        if not question.fast:
            return [self._reply(s, codec.status(*answer), i + 1) for i, (s, answer) in enumerate(answers)]
        silent = [Status(wanted, 0, bytes(length)) for wanted, _, length in question.asked[len(answers) :]]
        pieces = codec.fast_status([answer for _, answer in answers] + silent)
        return [self._reply(s, piece) for (s, _), piece in zip(answers, pieces, strict=False)]

    @staticmethod
    def _status(servo: VirtualServo, error: int, data: bytes) -> Status:
        return Status(servo.id, error | servo.alert, data)

    @staticmethod
    def _reply(servo: VirtualServo, data: bytes, place: int = 1) -> Reply:
        return Reply(data, place * servo.delay_us, servo.joint)


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
