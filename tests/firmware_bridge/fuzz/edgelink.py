"""edgelink's decoder: any bytes in any pieces, never an exception, never more kept than one frame."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.edgelink import codec


def one(data: bytes) -> None:
    provided = atheris.FuzzedDataProvider(data)
    decoder, knowing = codec.Decoder(), codec.Decoder(2)  # the second has a short way for states of two channels
    while provided.remaining_bytes():
        piece = provided.ConsumeBytes(provided.ConsumeIntInRange(1, 300))
        messages = decoder.feed(piece)
        for message in messages:
            codec.encode(message, None) if not isinstance(message, codec.Command) else message.setpoint
        if repr(knowing.feed(piece)) != repr(messages):
            raise RuntimeError("two ways to read the same bytes differ")
    if len(decoder._partial) > codec.MAX_ENCODED:
        raise RuntimeError("kept more than one frame")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
