"""One servo after the other, question and answer: for connecting, scanning and calibrating, never inside a cycle."""

from __future__ import annotations

import time
from dataclasses import dataclass

from firmware_bridge.errors import JointSilent, NoAnswer, WrongJoint, explain, or_another_protocol
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.models import BY_NUMBER, EEPROM_END, MODELS, SCS, STS, Register, Series
from firmware_bridge.transport.base import Transport

ANSWER_S = 0.1  # s, of one try: a USB adapter may hold an answer back for 16 ms, a busy host for longer
PING_S = 0.03  # s: scanning asks 254 ids, most of which are nobody's
TRIES = 3
_RAM_BYTES = Register.MOVING + 1 - EEPROM_END


@dataclass(frozen=True)
class Servo:
    """Everything that one servo says of itself: registers 0..66, and the status byte of its answer."""

    id: int
    registers: bytes
    status: int

    @property
    def series(self) -> Series:
        """By its model number; by its byte-order register where that is not known."""
        for series in (STS, SCS):
            name = BY_NUMBER.get(self.word(Register.MODEL, series))
            if name is not None and MODELS[name].series is series:
                return series
        return SCS if self.byte(Register.BYTE_ORDER) else STS

    @property
    def number(self) -> int:
        return self.word(Register.MODEL, self.series)

    @property
    def model(self) -> str:
        return BY_NUMBER.get(self.number, f"number {self.number}")

    @property
    def firmware(self) -> str:
        return f"{self.byte(0)}.{self.byte(1)}"

    @property
    def limits(self) -> tuple[int, int]:
        """Position limits in its EEPROM, counts."""
        return self.word(Register.MIN_POSITION, self.series), self.word(Register.MAX_POSITION, self.series)

    @property
    def homing_offset(self) -> int:
        """Counts; 0 in a series that has none."""
        return codec.to_signed(self.word(Register.HOMING_OFFSET, self.series), 11) if self.series.homing else 0

    @property
    def position(self) -> int:
        """Counts."""
        return codec.to_signed(self.word(Register.PRESENT_POSITION, self.series), 15)

    @property
    def torque_on(self) -> bool:
        return self.byte(Register.TORQUE_ENABLE) == 1

    @property
    def return_delay_s(self) -> float:
        return self.byte(Register.RETURN_DELAY) * 2e-6

    @property
    def voltage_v(self) -> float:
        return self.byte(Register.PRESENT_VOLTAGE) / 10

    @property
    def temperature_c(self) -> float:
        return float(self.byte(Register.PRESENT_TEMPERATURE))

    def byte(self, register: int) -> int:
        return self.registers[register]

    def word(self, register: int, series: Series) -> int:
        return codec.words(self.registers[register : register + 2], series.big_endian)[0]


class ServoBus:
    """Questions over an open transport. A servo that stays silent is asked TRIES times."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def ping(self, servo: int) -> bool:
        """One try. An adapter that echoes answers like a servo with a voltage fault: `read` is the proof."""
        return self._try(codec.ping(servo), servo, 0, PING_S) is not None

    def read(self, servo: int, address: int, count: int) -> codec.Packet:
        """`count` must not be 2: an echo of the question would be as long as its answer. Raises NoAnswer."""
        for _ in range(TRIES):
            if (answer := self._try(codec.read(servo, address, count), servo, count)) is not None:
                return answer
        todo = "check its plug, power and id, and the baud rate (`edgevla bus scan`)"
        raise NoAnswer(explain(f"servo {servo} on {self.transport.name}", "an answer", "silence", todo))

    def write(self, servo: int, address: int, data: bytes) -> None:
        """Write and read back. Raises NoAnswer, WrongJoint when it reads otherwise."""
        wanted = max(len(data), 3)  # 3: see `read`
        for _ in range(TRIES):
            self._try(codec.write(servo, address, data), servo, 0)
            if self.read(servo, address, wanted).data[: len(data)] == data:
                return
        got = self.read(servo, address, wanted).data[: len(data)].hex(" ")
        todo = "power-cycle the arm; if it stays so, its firmware does not take this setting: leave it out"
        what = f"servo {servo} on {self.transport.name} did not take register {address}"
        raise WrongJoint(explain(what, data.hex(" "), got, todo))

    def servo(self, servo: int) -> Servo:
        """Raises NoAnswer."""
        eeprom = self.read(servo, 0, EEPROM_END)
        ram = self.read(servo, EEPROM_END, _RAM_BYTES)
        return Servo(servo, eeprom.data + ram.data, ram.code)

    def servos(self, names: dict[int, str]) -> list[Servo]:
        """id -> name: all of them. Raises NoAnswer when all are silent, JointSilent that names those that are."""
        found, silent = [], []
        for servo, name in names.items():
            try:
                found.append(self.servo(servo))
            except NoAnswer:
                silent.append(f"{name} (id {servo})")
                if len(silent) == len(names):
                    todo = "check the arm's power supply (USB feeds the adapter only), the cable and the baud rate"
                    todo += or_another_protocol(self.transport.name)
                    what = f"no servo answers on {self.transport.name}"
                    raise NoAnswer(explain(what, f"{len(names)} answers", "silence", todo)) from None
        if silent:
            todo = "check the plug between the last servo that answers and the first that does not, and their ids"
            what = f"servos silent on {self.transport.name}"
            raise JointSilent(explain(what, "an answer of each", ", ".join(silent), todo))
        return found

    def _try(self, request: bytes, servo: int, count: int, wait_s: float = ANSWER_S) -> codec.Packet | None:
        """The answer with `count` bytes of data to one question, or None."""
        self.transport.read()  # what is left of the question before
        decoder = codec.Decoder(max(len(request), count + 6))
        self.transport.write(request)
        deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
        while self.transport.wait_readable(deadline_ns):
            for answer in decoder.feed(self.transport.read()):
                if answer.id == servo and len(answer.data) == count:
                    return answer
        return None


def lock(bus: ServoBus, servo: Servo) -> None:
    """From here on, what is written below EEPROM_END acts and is not saved: the user's settings stay the user's."""
    if servo.byte(servo.series.lock) != 1:
        bus.write(servo.id, servo.series.lock, b"\x01")


def unlock(bus: ServoBus, servo: Servo) -> None:
    """From here on, what is written below EEPROM_END is saved."""
    bus.write(servo.id, servo.series.lock, b"\x00")
