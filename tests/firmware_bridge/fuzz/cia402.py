"""CANopen's decoders, and the SDO server of the virtual drive: any frame is explained and answered; no exception."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.cia402 import codec, sentences, states
    from firmware_bridge.cia402.server import ObjectServer
    from firmware_bridge.transport.base import Frame

_SERVER = ObjectServer(1, lambda place, value: None)


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
    _SERVER.reset()
    for at in range(0, len(payload), 8):
        answer = _SERVER.answer(payload[at : at + 8])
        if answer is not None and len(answer) != 8:
            raise RuntimeError("an SDO answer of another length than 8")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
