"""What a set-point may be: the ranges of its channels, as the numbers that travel. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from operator import le

from firmware_bridge.arm import ChannelLike
from firmware_bridge.edgelink.messages import SENTENCES, Verdict
from firmware_bridge.errors import BadSetpoint, explain

MAX_CHANNELS = 32
_LARGEST = 3.4028234663852886e38  # float32: a range that is open at an end has no infinity in it


def as_float32(value: float) -> float:
    """The number that arrives when `value` travels as float32."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


class Limits:
    """Closed ranges per channel, rounded to float32 like the set-points (0.05 travels as 0.0500000007)."""

    def __init__(self, channels: Sequence[ChannelLike]) -> None:
        if not 1 <= len(channels) <= MAX_CHANNELS:
            raise ValueError(f"edgelink carries 1..{MAX_CHANNELS} channels, got {len(channels)}")
        self.names = tuple(channel.name for channel in channels)
        self.low = tuple(max(as_float32(channel.minimum), -_LARGEST) for channel in channels)
        self.high = tuple(min(as_float32(channel.maximum), _LARGEST) for channel in channels)

    def __len__(self) -> int:
        return len(self.names)

    def judge(self, values: Sequence[float]) -> Verdict:
        """ACCEPTED, or the first of WRONG_COUNT, NOT_FINITE, OUT_OF_LIMIT that holds."""
        if len(values) != len(self.names):
            return Verdict.WRONG_COUNT
        if all(map(le, self.low, values)) and all(map(le, values, self.high)):  # NaN is in no range
            return Verdict.ACCEPTED
        return Verdict.OUT_OF_LIMIT if all(map(math.isfinite, values)) else Verdict.NOT_FINITE

    def require(self, values: Sequence[float]) -> None:
        """Raises BadSetpoint, naming the channels, unless every value may be commanded."""
        verdict = self.judge(values)
        if verdict is not Verdict.ACCEPTED:
            ranges = zip(self.names, self.low, self.high, strict=True)
            raise BadSetpoint(
                explain(
                    f"set-point refused before the wire: {SENTENCES[verdict]}",
                    ", ".join(f"{name} {low:g}..{high:g}" for name, low, high in ranges),
                    ", ".join(f"{value:g}" for value in values),
                    "limit set-points before they are sent; the arm keeps its last accepted one",
                )
            )
