"""Fuzzes the Dynamixel decoder, the answers' parsers, the words and the virtual servos with any bytes.

python -m tests.firmware_bridge.fuzz.dynamixel -max_total_time=600 tests/firmware_bridge/fuzz/corpus/dynamixel
"""

from __future__ import annotations

import contextlib
import sys


def _instrumented() -> contextlib.AbstractContextManager[object]:
    """Coverage of our modules guides the fuzzer; the test that replays the corpus needs no atheris."""
    if __name__ != "__main__":
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=["firmware_bridge.dynamixel"])


with _instrumented():
    from firmware_bridge.dynamixel import codec, virtual
    from firmware_bridge.dynamixel.codec import Decoder
    from firmware_bridge.virtual.__main__ import plant_of
    from tests.firmware_bridge.dynamixel.arms import JOINTS
    from tests.firmware_bridge.dynamixel.wire import armed


FEW = JOINTS[1:3]  # one of each family: making six takes most of the time
ARM, WIRE = armed()
WIRE.held = b""
WIRE.write(ARM._questions[0])
ANSWER = WIRE.read()


def check(data: bytes) -> None:
    """What must hold for any bytes: nothing raises, nothing is lost, and pieces make no difference."""
    cut, length = (data[0], data[1] % 32) if len(data) > 1 else (0, 4)
    stream = data[2:]
    whole, pieces = Decoder(), Decoder()
    found = whole.feed(stream)
    if found != pieces.feed(stream[:cut]) + pieces.feed(stream[cut:]):
        raise AssertionError("cut differently, decoded differently")
    if b"".join(codec.split(stream)) != stream:
        raise AssertionError("split lost bytes")
    for unit in found:
        codec.statuses(unit, length)
    spoiled = bytes(a ^ b for a, b in zip(ANSWER, stream.ljust(len(ANSWER), b"\0"), strict=False))
    if ARM._usual.readings(spoiled, ARM._units) is not None and not Decoder().feed(spoiled):
        raise AssertionError("taken apart in one go, but no packet")
    codec.fast_blocks(stream, length)
    codec.describe(stream)
    device = virtual.make(FEW, plant_of(list(FEW), 0.0), {})
    device.feed(stream, 1000)
    if found:  # the same bytes behind a right header and a right CRC reach the servos' registers
        device.tick(2000)
    if stream:
        device.feed(codec.packet(data[0] % 253 if cut % 2 else codec.BROADCAST, stream[0], stream[1:60]), 3000)


if __name__ == "__main__":
    import atheris

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
