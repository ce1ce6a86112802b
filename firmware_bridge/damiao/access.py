"""Reading and writing motors' registers over a bus, one register of all motors at a time.

No more frames than motors wait in the send queue: SocketCAN's holds 10 by default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from firmware_bridge.bus_arm import FIRST_READ_S, TRIES
from firmware_bridge.damiao import codec, registers
from firmware_bridge.damiao.models import Scale, named
from firmware_bridge.errors import WatchdogMismatch, WrongJoint, explain
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Frame, FrameTransport

_SCALE_TOLERANCE = 1e-5  # relative: registers are float32
_SCAN_S = 0.05  # s, until the ids that stay silent are passed over
_TOGETHER = 8  # ids asked at once


class Access:
    """The registers of `motors` (ESC_IDs). `whose`: index of the motor that sent a frame, None for a stranger's."""

    def __init__(
        self, transport: FrameTransport, motors: Sequence[int], whose: Callable[[Frame], int | None], fd: bool
    ) -> None:
        self._transport, self._motors, self._whose, self._fd = transport, tuple(motors), whose, fd

    def read(self, numbers: Iterable[int], of: Iterable[int] | None = None) -> dict[int, dict[int, float]]:
        """What each motor (index), or those of `of`, answers to up to TRIES questions; ends where one stays silent."""
        found: dict[int, dict[int, float]] = {i: {} for i in (range(len(self._motors)) if of is None else of)}
        for number in numbers:
            for i, value in self._ask(number, partial(codec.read, register=number, fd=self._fd), set(found)).items():
                found[i][number] = value
            if not all(number in values for values in found.values()):
                break
        return found

    def write(self, number: int, values: Mapping[int, int]) -> None:
        """Set one register of the motors whose index is in `values`; whether it took, `read` tells."""
        by_motor = {self._motors[i]: value for i, value in values.items()}
        self._ask(number, lambda motor: codec.write(motor, number, by_motor[motor], self._fd), set(values))

    def _ask(self, number: int, frame: Callable[[int], Frame], missing: set[int]) -> dict[int, float]:
        answers: dict[int, float] = {}
        for _ in range(TRIES):
            if missing:
                self._transport.write([frame(self._motors[i]) for i in sorted(missing)])
                self._listen(number, missing, answers)
        return answers

    def _listen(self, number: int, missing: set[int], into: dict[int, float]) -> None:
        deadline_ns = time.monotonic_ns() + int(FIRST_READ_S * 1e9)
        while missing and self._transport.wait_readable(deadline_ns):
            for frame in self._transport.read():
                i = self._whose(frame)
                answer = None if i is None else codec.register(frame.data, self._motors[i])
                if i in missing and answer is not None and answer[0] == number:
                    into[i] = answer[1]
                    missing.discard(i)


def judge_scale(who: str, model: str, wanted: Scale, found: Mapping[int, float]) -> None:
    """Raises WrongJoint when the motor's own full scale is not the model's."""
    says = Scale(found[registers.PMAX], found[registers.VMAX], found[registers.TMAX])
    if all(abs(a - b) <= _SCALE_TOLERANCE * b for a, b in zip(says, wanted, strict=True)):
        return
    own = "{}@{:g},{:g},{:g}".format(model.partition("@")[0], *says)
    raise WrongJoint(
        explain(
            f"{who} is not scaled as a {model}: every set-point would reach it as another one",
            "PMAX {:g} rad, VMAX {:g} rad/s, TMAX {:g} N m".format(*wanted),
            "PMAX {:g}, VMAX {:g}, TMAX {:g}: ".format(*says) + named(says),
            f"correct the model in the profile; if the motor is meant to be so, name it {own}",
        )
    )


def judge_number(who: str, number: int, wanted: float, found: Mapping[int, float]) -> None:
    """Raises WrongJoint, of TIMEOUT WatchdogMismatch, when a register is not as wanted."""
    if found[number] == wanted:
        return
    kind = WatchdogMismatch if number == registers.TIMEOUT else WrongJoint
    todo = "correct the joint in the arm's profile, or set the motor with Damiao's tool, disabled"
    name = registers.REGISTERS[number]
    raise kind(explain(f"{name} (register {number}) of {who}", f"{wanted:g}", f"{found[number]:g}", todo))


def scan(transport: FrameTransport, fd: bool = False, ids: Iterable[int] = range(1, 0x80)) -> list[Found]:
    """Who answers on an open bus: every id is asked for its registers, nothing is commanded. 127 ids take 0.8 s."""
    asked = list(ids)
    there = [
        motor for at in range(0, len(asked), _TOGETHER) for motor in _present(transport, asked[at:][:_TOGETHER], fd)
    ]
    return [_found(motor, values) for motor in there if (values := _identity(transport, motor, fd))]


def _present(transport: FrameTransport, ids: Sequence[int], fd: bool) -> list[int]:
    transport.read()
    transport.write([codec.read(motor, registers.ESC_ID, fd) for motor in ids])
    found: set[int] = set()
    deadline_ns = time.monotonic_ns() + int(_SCAN_S * 1e9)
    while len(found) < len(ids) and transport.wait_readable(deadline_ns):
        for frame in transport.read():
            found |= {motor for motor in ids if (codec.register(frame.data, motor) or (-1,))[0] == registers.ESC_ID}
    return sorted(found)


def _identity(transport: FrameTransport, motor: int, fd: bool) -> dict[int, float]:
    """Empty when it does not answer wholly."""
    transport.write([codec.read(motor, number, fd) for number in registers.IDENTITY])
    values: dict[int, float] = {}
    deadline_ns = time.monotonic_ns() + int(FIRST_READ_S * 1e9)
    while len(values) < len(registers.IDENTITY) and transport.wait_readable(deadline_ns):
        for frame in transport.read():
            answer = codec.register(frame.data, motor)
            if answer is not None:
                values[answer[0]] = answer[1]
    return values if values.keys() >= set(registers.IDENTITY) else {}


def _found(motor: int, values: Mapping[int, float]) -> Found:
    scale = Scale(values[registers.PMAX], values[registers.VMAX], values[registers.TMAX])
    note = f"answers on {int(values[registers.MST_ID]):#x}; " + "PMAX {:g}, VMAX {:g}, TMAX {:g}".format(*scale)
    return Found(motor, named(scale), f"{values[registers.SW_VER]:g}", note)
