"""Is the arm pushing too hard, or stuck? Pure: measured effort and following error, judged over time.

A channel of the profile may declare `max_effort` (N m or N, by its magnitude) and `max_following_error` (|set-point -
measured|, channel units). One of them exceeded in every reading for longer than `effort_s` is a protective stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from edgevla.errors import Refused, explain
from profiles.model import ArmProfile, Channel

Float32 = NDArray[np.float32]
_NEVER = -1


@dataclass(frozen=True)
class Strain:
    """Since when each channel has been beyond its limit: time of the first such reading, ns, or -1."""

    effort_since: tuple[int, ...]
    following_since: tuple[int, ...]

    @staticmethod
    def none(channels: int) -> Strain:
        return Strain((_NEVER,) * channels, (_NEVER,) * channels)


def watched(arm: ArmProfile) -> bool:
    """Whether the profile declares anything for `judge` to look at."""
    return any(channel.max_effort is not None or channel.max_following_error is not None for channel in arm.channels)


def judge(
    arm: ArmProfile,
    strain: Strain,
    stamp_ns: int,
    setpoint: NDArray[np.floating],
    position: Float32,
    effort: Float32 | None,
) -> tuple[Strain, str | None]:
    """Strain after one reading, and the sentence of a protective stop or None.

    `stamp_ns`: when the device took the reading; `setpoint` (n,): the command in force then; `effort` None or NaN: not
    measured. A reading that is judged twice counts once: only its own time counts.
    """
    efforts = [float("nan")] * len(arm.channels) if effort is None else effort.tolist()
    lags = np.abs(np.asarray(setpoint, np.float64) - position).tolist()
    pushed = tuple(
        _since(before, abs(value), channel.max_effort, stamp_ns)
        for before, value, channel in zip(strain.effort_since, efforts, arm.channels, strict=True)
    )
    behind = tuple(
        _since(before, value, channel.max_following_error, stamp_ns)
        for before, value, channel in zip(strain.following_since, lags, arm.channels, strict=True)
    )
    after = Strain(pushed, behind)
    for i, channel in enumerate(arm.channels):
        if _too_long(channel, pushed[i], stamp_ns):
            return after, _sentence(channel, "effort", efforts[i], channel.max_effort, "", stamp_ns - pushed[i])
        if _too_long(channel, behind[i], stamp_ns):
            limit, unit = channel.max_following_error, f" {channel.unit}"
            return after, _sentence(channel, "following error", lags[i], limit, unit, stamp_ns - behind[i])
    return after, None


def unmeasured(arm: ArmProfile, effort: Float32 | None) -> tuple[str, ...]:
    """Channels that declare max_effort and whose effort this arm does not measure. `effort` (n,): of one reading."""
    values = [float("nan")] * len(arm.channels) if effort is None else effort.tolist()
    pairs = zip(arm.channels, values, strict=True)
    return tuple(channel.name for channel, value in pairs if channel.max_effort is not None and isnan(value))


def require_measured(arm: ArmProfile, effort: Float32 | None) -> None:
    """Raises Refused when the profile limits an effort that the connected arm does not measure."""
    names = unmeasured(arm, effort)
    if names:
        raise Refused(
            explain(
                f"the profile {arm.name} limits an effort that the arm does not measure",
                f"a measured effort of {', '.join(names)}",
                "none in the arm's state after connecting",
                "take max_effort out of these channels, or use max_following_error, which every arm can watch",
            )
        )


def _since(before: int, value: float, limit: float | None, stamp_ns: int) -> int:
    if limit is None or not value > limit:  # NaN is not measured
        return _NEVER
    return stamp_ns if before == _NEVER else before


def _too_long(channel: Channel, since_ns: int, stamp_ns: int) -> bool:
    return since_ns != _NEVER and stamp_ns - since_ns > channel.effort_s * 1e9


def _sentence(channel: Channel, what: str, value: float, limit: float | None, unit: str, lasted_ns: int) -> str:
    lasted = f"for {lasted_ns / 1e6:.0f} ms, longer than {channel.effort_s * 1e3:g} ms"
    return f"{what} of {channel.name} beyond {limit:g}{unit} {lasted}: {value:.4g}{unit}"
