"""moteus' subframes: any frame, no exception but ForeignBytes; the quick way to a status reads as the slow."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.errors import ForeignBytes
    from firmware_bridge.moteus import codec
    from firmware_bridge.moteus.virtual import make
    from firmware_bridge.transport.base import Frame
    from firmware_bridge.virtual.__main__ import plant_of
    from tests.firmware_bridge.moteus.arms import JOINTS

DEVICE = make(JOINTS, plant_of(list(JOINTS), 0.2), {})


def one(data: bytes) -> None:
    can_id, payload = int.from_bytes(data[:4], "little") & 0x1FFFFFFF, data[4:68]
    frame = Frame(can_id, payload, True, True, True)
    if not isinstance(codec.describe(frame), str):
        raise RuntimeError("no words")
    codec.text_out(payload)
    quick, slow = codec.status(payload), codec._status_of_any_layout(payload)
    if quick is not None and repr(quick) != repr(slow):
        raise RuntimeError(f"{quick} is not {slow}")
    try:
        codec.values(payload)
    except ForeignBytes:
        if quick is not None:
            raise RuntimeError("a status of a frame that is none") from None
    for reply in DEVICE.feed(Frame(0x8001, payload, True, True, True), 1_000_000):
        codec.values(reply.data.data)  # what the device says is always whole


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
