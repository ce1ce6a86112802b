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
    runs: list[bytes] = []
    at = 0
    while at < len(encoded):
        code = encoded[at]
        end = at + code
        if code == 0 or end > len(encoded):
            return None
        runs.append(encoded[at + 1 : end])
        at = end
    return b"\0".join(runs)
