"""What a compressed policy gets wrong, in the units of its channels, and the budget it must stay in. Pure.

The error is that of the set-points, per channel, after the committed rows. Deltas are summed over the chunk as the
robot sums them (without its limits), so a small error of the same sign in every tick counts as what it adds up to. A
frame counts with its worst row. A gripper is judged by its sign: where its command lies on the other side of the middle
of its range, the hand opens instead of closing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import ActionChannel
from edgevla.errors import Usage, explain
from edgevla.telemetry.stats import nearest_rank

Array = npt.NDArray[Any]
# Default budget, in scales of a channel (what 1.0 of the normalised action means):
DELTA_STEPS = 0.5  # a delta channel: after the whole chunk, half of one full step of one tick
ABSOLUTE_SHARE = 0.05  # an absolute channel
FLIPS = 0.01  # share of frames, weighted by how far the command swings


@dataclass(frozen=True)
class ChannelError:
    """One channel over all frames, in its unit; a frame counts with its worst row."""

    name: str
    unit: str
    p50: float
    p99: float
    maximum: float


@dataclass(frozen=True)
class ActionError:
    """Chunks of a candidate against those of FP32.

    `flips`: share of frames in which a gripper's sign differs in any row. `flips_weighted`: the same share, each frame
    weighted by the swing, 1 for a command at the other end of the range: a flip between +0.01 and -0.01 moves nothing.
    """

    frames: int
    channels: tuple[ChannelError, ...]
    flips: float
    flips_weighted: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(table: Mapping[str, Any]) -> ActionError:
        channels = tuple(ChannelError(**row) for row in table["channels"])
        return ActionError(int(table["frames"]), channels, float(table["flips"]), float(table["flips_weighted"]))


@dataclass(frozen=True)
class Budget:
    """The p99 each channel may be off by, in its unit (none for a gripper), and the weighted share of flips."""

    limits: Mapping[str, float]
    flips: float

    def share(self, error: ActionError) -> float:
        """How much of the budget an error takes, by its worst channel: 1.0 fills it. Not a number takes infinity."""
        parts = [row.p99 / self.limits[row.name] for row in error.channels if row.name in self.limits]
        parts.append(error.flips_weighted / self.flips)
        return float(max(parts)) if np.isfinite(parts).all() else float("inf")

    def as_dict(self) -> dict[str, Any]:
        return {"p99": dict(self.limits), "flips_weighted": self.flips}


def is_gripper(channel: ActionChannel) -> bool:
    return channel.space == "gripper"


def action_error(expected: Array, got: Array, committed: Array, channels: Sequence[ActionChannel]) -> ActionError:
    """The error over frames.

    Args:
        expected, got: normalised chunks (F, H, A), F >= 1.
        committed: prefix mask (F, H, 1), 1 where a row is already committed and does not count.
        channels: A of them; value = normalised * scale + offset.
    """
    scale, offset = (np.array([getattr(channel, key) for channel in channels]) for key in ("scale", "offset"))
    free = 1.0 - committed.astype(np.float64)
    difference = (got.astype(np.float64) - expected) * scale * free  # the offsets cancel
    delta = np.array([channel.kind == "delta" for channel in channels])
    setpoint = np.where(delta, np.cumsum(difference, axis=1), difference)
    worst = np.abs(setpoint).max(axis=1)
    rows = tuple(_summary(channel, column) for channel, column in zip(channels, worst.T, strict=True))
    swing = _swing(expected * scale + offset, got * scale + offset, free, channels)
    return ActionError(len(expected), rows, float((swing > 0).mean()), float(swing.mean()))


def _summary(channel: ActionChannel, values: Array) -> ChannelError:
    ordered = np.sort(values)
    p50, p99 = (float(ordered[nearest_rank(ordered.size, q)]) for q in (0.5, 0.99))
    return ChannelError(channel.name, channel.unit, p50, p99, float(ordered[-1]))


def _swing(expected: Array, got: Array, free: Array, channels: Sequence[ActionChannel]) -> Array:
    """Per frame (F,) the largest swing of a gripper through the middle of its range, as a share of it. In its unit."""
    swing = np.zeros(len(expected))
    for i, channel in enumerate(channels):
        if is_gripper(channel):
            middle = (channel.minimum + channel.maximum) / 2
            a, b = expected[..., i], got[..., i]
            flipped = ((a > middle) != (b > middle)) & (free[..., 0] > 0)
            moved = np.minimum(np.abs(b - a) / (channel.maximum - channel.minimum), 1.0)
            swing = np.maximum(swing, np.where(flipped, moved, 0.0).max(axis=1))
    return swing


def default_budget(channels: Sequence[ActionChannel]) -> Budget:
    """From the scales: `DELTA_STEPS` of a full step for deltas, `ABSOLUTE_SHARE` of the scale for the rest."""
    limits = {
        channel.name: channel.scale * (DELTA_STEPS if channel.kind == "delta" else ABSOLUTE_SHARE)
        for channel in channels
        if not is_gripper(channel)
    }
    return Budget(limits, FLIPS)


def parse_budget(text: str, channels: Sequence[ActionChannel]) -> Budget:
    """`x=0.005,y=0.005,flips=0.01`: what is not named keeps its default.

    Raises:
        Usage: an unknown name, or no positive number.
    """
    default = default_budget(channels)
    limits, flips = dict(default.limits), default.flips
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, number = part.partition("=")
        value = _positive(number)
        if value is None or name not in (*limits, "flips"):
            expected = f"NAME=NUMBER above 0, of {', '.join((*limits, 'flips'))}"
            raise Usage(explain("--error-budget", expected, repr(part), "write it like x=0.005,flips=0.01"))
        if name == "flips":
            flips = value
        else:
            limits[name] = value
    return Budget(limits, flips)


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None
