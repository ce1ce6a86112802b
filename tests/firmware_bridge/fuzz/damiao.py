"""Damiao's decoders: any frame is explained, and is nobody's, a register's or a state; never an exception."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.damiao import codec, cycle
    from firmware_bridge.damiao.models import MODELS
    from firmware_bridge.transport.base import Frame

_SCALES = list(MODELS.values())
_MOTORS = range(1, len(_SCALES) + 1)
_SENDERS = cycle.senders(_MOTORS, [0x10 + motor for motor in _MOTORS], _SCALES)


def one(data: bytes) -> None:
    """2 bytes of id and flags, 1 byte of model, the frame's data."""
    if len(data) < 3:
        return
    word, payload = int.from_bytes(data[:2], "big"), data[3:67]
    frame = Frame(word & 0x7FF, payload, bool(word & 0x800), bool(word & 0x1000), bool(word & 0x2000), word > 0xBFFF)
    if not codec.describe(frame):
        raise RuntimeError("a frame without a sentence")
    codec.register(payload, word & 0xFF)
    if len(payload) == 8:
        scale = _SCALES[data[2] % len(_SCALES)]
        said = codec.state(payload, scale)
        if not abs(said.position_rad) <= scale.pmax_rad * 1.000001:
            raise RuntimeError("a state beyond full scale")
    for joint, *said, _, _, _ in cycle.readings([frame], _SENDERS, bool(data[2] & 1), [0] * len(_SCALES)):
        if tuple(said) != codec.state(payload, _SCALES[joint])[2:5]:
            raise RuntimeError("the short way says another state")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
