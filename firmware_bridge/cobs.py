"""Consistent overhead byte stuffing (Cheshire and Baker, 1999) for frames of at most 253 bytes.

Stuffed bytes hold no zero, so a zero can end a frame, and a reader that lost its place finds it again there.
"""

from __future__ import annotations

LONGEST = 253  # bytes: one more would need the code 0xFF, which no frame here uses


def cobs_encode(body: bytes) -> bytes:
    """`body` without zeros, one byte longer; ValueError when it is longer than LONGEST."""
    if len(body) > LONGEST:
        raise ValueError(f"a COBS frame holds at most {LONGEST} bytes here, got {len(body)}")
    out = bytearray()
    for run in body.split(b"\0"):
        out.append(len(run) + 1)
        out += run
    return bytes(out)


def cobs_decode(encoded: bytes) -> bytes | None:
    """The bytes before stuffing, or None when `encoded` cannot come from `cobs_encode`."""
    out, at, end = bytearray(encoded), 0, len(encoded)
    while at < end:
        code = out[at]
        if code == 0:
            return None
        out[at] = 0  # every code but the first stands where a zero was
        at += code
    return bytes(out[1:]) if at == end else None
