"""edgelink's decoder: any bytes in any pieces, never an exception, never more kept than one frame."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.edgelink import codec


def one(data: bytes) -> None:
    provided = atheris.FuzzedDataProvider(data)
    decoder = codec.Decoder()
    while provided.remaining_bytes():
        piece = provided.ConsumeBytes(provided.ConsumeIntInRange(1, 300))
        for message in decoder.feed(piece):
            codec.encode(message, None) if not isinstance(message, codec.Command) else message.setpoint
    if len(decoder._partial) > codec.MAX_ENCODED:
        raise RuntimeError("kept more than one frame")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
