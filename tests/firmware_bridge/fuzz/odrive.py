"""CANSimple's decoder: any frame is explained, decodes to something or to nothing, never to an exception."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.odrive import codec, models
    from firmware_bridge.transport.base import Frame


def one(data: bytes) -> None:
    """2 bytes of id and flags, then the frame's data."""
    if len(data) < 2:
        return
    word, payload = int.from_bytes(data[:2], "big"), data[2:66]
    frame = Frame(word & 0xFFF, payload, bool(word & 0x1000), bool(word & 0x2000), False, bool(word & 0x4000))
    if not codec.describe(frame):
        raise RuntimeError("a frame without a sentence")
    message = codec.decode(frame)
    if message is not None and message.command is codec.Command.TX_SDO:
        for kind in codec.PARAMETER_TYPES:
            codec.parameter(payload[4:], kind)
    if message is not None and message.command is codec.Command.HEARTBEAT:
        error = int.from_bytes(payload[:4], "little")
        if bool(models.faults_of(error)) != bool(error):
            raise RuntimeError("an error that is no fault")
        models.sentence(error)
    if len(payload) == 8:
        codec.estimates(payload)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
