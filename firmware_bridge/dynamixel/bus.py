"""One question, one answer: reading and writing single registers, outside of cycles. Every answer is checked."""

from __future__ import annotations

import time

from firmware_bridge.bus_arm import FIRST_READ_S, TRIES
from firmware_bridge.dynamixel import codec
from firmware_bridge.dynamixel.codec import Decoder, Status
from firmware_bridge.dynamixel.models import Register
from firmware_bridge.errors import ArmRefused, JointSilent, explain
from firmware_bridge.transport.base import Transport


class Bus:
    """Servos on `transport`, which is open. `answer_s`: patience for one answer, tried TRIES times."""

    def __init__(self, transport: Transport, answer_s: float = FIRST_READ_S) -> None:
        self.transport, self._answer_s = transport, answer_s

    def try_ask(self, unit: bytes, servo: int, length: int) -> Status | None:
        """One try: the status with `length` data bytes, or one that says why not; None when none came."""
        self.transport.read()  # what came unasked answers nothing
        decoder = Decoder()
        self.transport.write(unit)
        deadline_ns = time.monotonic_ns() + int(self._answer_s * 1e9)
        while self.transport.wait_readable(deadline_ns):
            for found in decoder.feed(self.transport.read()):
                answers = codec.statuses(found, length) or codec.statuses(found, 0)
                if answers and answers[0].servo == servo and found[4] == servo:
                    return answers[0]
        return None

    def ask(self, unit: bytes, servo: int, length: int) -> Status:
        """Raises JointSilent; ArmRefused where the servo answers with an error."""
        for _ in range(TRIES):
            answer = self.try_ask(unit, servo, length)
            if answer is not None and (len(answer.data) == length or answer.error & ~codec.ALERT):
                break
            self._let_it_come()
        else:
            todo = "check its plug, its power, its id and its baud rate"
            raise JointSilent(explain(f"servo {servo} on {self.transport.name}", "a status packet", "silence", todo))
        error = answer.error & ~codec.ALERT
        if error:
            sentence = codec.SENTENCES.get(error, f"error {error:#04x}")
            todo = "see the servo's control table in the e-manual"
            raise ArmRefused(explain(f"servo {servo}: {codec.describe(unit)}", "no error", sentence, todo))
        return answer

    def _let_it_come(self) -> None:
        """Until the line is quiet: answers carry no number, and one that is late must not answer the next question."""
        deadline_ns = time.monotonic_ns() + int(self._answer_s * 1e9)
        while self.transport.wait_readable(deadline_ns):
            self.transport.read()

    def read(self, servo: int, register: Register) -> int:
        """Raises JointSilent, ArmRefused."""
        data = self.ask(codec.read(servo, register.address, register.size), servo, register.size).data
        return int.from_bytes(data, "little", signed=register.signed)

    def write(self, servo: int, register: Register, value: int) -> None:
        """Raises JointSilent, ArmRefused."""
        self.ask(codec.write(servo, register, value), servo, 0)

    def write_and_check(self, servo: int, register: Register, value: int) -> None:
        """Written, and read back. Raises JointSilent, ArmRefused."""
        self.write(servo, register, value)
        found = self.read(servo, register)
        if found != value:
            todo = "power-cycle it; another program may be using the bus"
            raise ArmRefused(explain(f"servo {servo}, register {register.address}", value, f"{found} read back", todo))
