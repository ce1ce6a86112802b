"""Feetech's decoder, split, describe, and answers taken apart at once: any bytes in any pieces, never an exception."""

import sys

import atheris

with atheris.instrument_imports():
    from firmware_bridge.feetech import codec


def one(data: bytes) -> None:
    provided = atheris.FuzzedDataProvider(data)
    decoder = codec.Decoder(provided.ConsumeIntInRange(6, codec.LONGEST))
    whole = b""
    while provided.remaining_bytes():
        piece = provided.ConsumeBytes(provided.ConsumeIntInRange(1, 300))
        whole += piece
        for packet in decoder.feed(piece):
            codec.describe(codec.packet(*packet))
            codec.sentence(packet.code)
            if len(packet.data) in (4, 6, 8):
                codec.reader(len(packet.data), big_endian=False)(packet.data)
    if len(decoder.rest) > decoder.longest:
        raise RuntimeError("kept more than one packet")
    together = [row[1:4:2] for row in codec.motions(whole)]
    if together and together != [(found.id, found.code) for found in codec.Decoder().feed(whole)]:
        raise RuntimeError("taken apart at once, other answers than packet by packet")
    pieces = codec.split(whole)
    if b"".join(pieces) != whole:
        raise RuntimeError("split lost bytes")
    for piece in pieces:
        codec.describe(piece)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
