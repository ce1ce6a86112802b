"""CANopen decoders, what the driver hears, and the virtual drive's SDO server: any frame is answered; no exception."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.arm import Joint, LinkCounts
    from firmware_bridge.cia402 import codec, sentences, states
    from firmware_bridge.cia402.heard import Heard
    from firmware_bridge.cia402.server import ObjectServer
    from firmware_bridge.transport.base import Frame

_SERVER = ObjectServer(1, lambda place, value: None)
_JOINTS = [Joint(f"axis{i}", "rad", -1.0, 1.0, id=i, model="cia402") for i in (1, 2)]
_HEARD = [Heard(_JOINTS, motion, LinkCounts()) for motion in (False, True)]


def one(data: bytes) -> None:
    """2 bytes of id and flags, then the frame's data."""
    if len(data) < 2:
        return
    word, payload = int.from_bytes(data[:2], "big"), data[2:66]
    frame = Frame(word & 0xFFF, payload, bool(word & 0x1000), bool(word & 0x2000), False, bool(word & 0x4000))
    if not codec.describe(frame):
        raise RuntimeError("a frame without a sentence")
    codec.uploaded(frame, 0x1000, 0)
    found = codec.emergency(payload)
    if found is not None and bool(sentences.faults_of(found.code)) != bool(found.code):
        raise RuntimeError("an emergency that is no fault")
    states.towards_enabled(states.state_of(word), word)
    for heard in _HEARD:
        if len(heard.readings([frame, frame], True)) > 2:
            raise RuntimeError("more readings than frames")
        heard.note_word(frame)
        heard.why(0)
    _SERVER.reset()
    for at in range(0, len(payload), 8):
        answer = _SERVER.answer(payload[at : at + 8])
        if answer is not None and len(answer) != 8:
            raise RuntimeError("an SDO answer of another length than 8")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
