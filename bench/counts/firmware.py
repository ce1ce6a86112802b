"""The C firmware's paths: `STEPS` of each in one call, so that ctypes costs next to nothing of it."""

from __future__ import annotations

import ctypes

from bench.suites.paths import HotPath, Made, Place
from bench.suites.paths.codecs import ANGLES, joints

STEPS = 100


def firmware_paths(library: ctypes.CDLL) -> list[HotPath]:
    """Of the library that `bench.counts.tools` builds."""

    def limiter(place: Place) -> Made:
        return Made(lambda: library.firmware_limiter(STEPS), lambda bits: bits != 0)

    def decode(place: Place) -> Made:
        from firmware_bridge.edgelink import codec

        frame = codec.encode(codec.Command(7, 123_456, ANGLES), codec.Limits(joints("generic")))
        return Made(lambda: library.firmware_decode(frame, len(frame), STEPS), lambda found: found == STEPS)

    def encode(place: Place) -> Made:
        from firmware_bridge.edgelink import codec

        size = codec.state_wire_bytes(7)
        return Made(lambda: library.firmware_encode(STEPS), lambda found: found == STEPS * size)

    made = {"limiter, 7 channels": limiter, "decode a command of 6": decode, "encode a state of 7": encode}
    return [HotPath(f"firmware/{name}, {STEPS} times", make, pure=True) for name, make in made.items()]
