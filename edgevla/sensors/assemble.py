"""May an inference act on what the sensors say now? Age of each camera and of the state, skew between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Fitness(Enum):
    """Each has its member of the same name in `edgevla.control.exchange.Status`."""

    OK = "OK"
    NO_FRAME = "NO_FRAME"  # a camera that must be there has not delivered yet
    OLD_FRAME = "OLD_FRAME"  # its newest frame is older than its profile allows
    OLD_STATE = "OLD_STATE"  # the joint state is older than its profile allows
    SKEWED = "SKEWED"  # each young enough, but not of one moment
    IMPOSSIBLE = "IMPOSSIBLE"  # stamped in the future: another clock


@dataclass(frozen=True)
class CameraLimit:
    """What one camera of the observation must keep."""

    max_age_s: float
    when_missing: str  # refuse | blank: the policy was trained with it absent


@dataclass(frozen=True)
class Limits:
    """What one observation must keep: cameras by name, age of the state, largest distance between two stamps."""

    cameras: Mapping[str, CameraLimit]
    max_state_age_s: float
    max_skew_s: float


@dataclass(frozen=True)
class Verdict:
    """`text` is one line for people, empty when OK; `blanks` are the cameras to show to the policy as absent."""

    status: Fitness
    text: str
    blanks: tuple[str, ...]


def judge(frames: Mapping[str, int | None], state_stamp_ns: int, now_ns: int, limits: Limits) -> Verdict:
    """Judge one observation.

    Args:
        frames: capture time of the newest frame by camera, CLOCK_MONOTONIC; None (or no key): none yet.
        state_stamp_ns: when the joint state was read; 0: there is none since arming.
        now_ns: when the inference begins.
        limits: the cameras of the bundle and what each must keep.

    A camera that may be absent and is missing, too old or from the future is blanked; it never makes the rest skewed.
    """
    problems = {name: _problem(frames.get(name), now_ns, limit) for name, limit in limits.cameras.items()}
    for name, (status, text) in problems.items():
        if status is not Fitness.OK and limits.cameras[name].when_missing == "refuse":
            return Verdict(status, f"camera {name}: {text}", ())
    blanks = tuple(name for name, (status, _) in problems.items() if status is not Fitness.OK)
    status, text = _state_problem(state_stamp_ns, now_ns, limits.max_state_age_s)
    if status is not Fitness.OK:
        return Verdict(status, text, blanks)
    seen = {f"camera {name}": frames[name] for name in limits.cameras if name not in blanks}
    stamps = {"the state": state_stamp_ns, **{name: stamp for name, stamp in seen.items() if stamp is not None}}
    text = _skew_problem(stamps, limits.max_skew_s)
    return Verdict(Fitness.SKEWED if text else Fitness.OK, text, blanks)


def _problem(stamp_ns: int | None, now_ns: int, limit: CameraLimit) -> tuple[Fitness, str]:
    if stamp_ns is None:
        return Fitness.NO_FRAME, "no frame yet"
    age_ns = now_ns - stamp_ns
    if age_ns < 0:
        return Fitness.IMPOSSIBLE, f"frame stamped {_ms(-age_ns)} in the future"
    if age_ns > limit.max_age_s * 1e9:
        return Fitness.OLD_FRAME, f"newest frame is {_ms(age_ns)} old, at most {_ms(limit.max_age_s * 1e9)}"
    return Fitness.OK, ""


def _state_problem(stamp_ns: int, now_ns: int, max_age_s: float) -> tuple[Fitness, str]:
    if stamp_ns == 0:
        return Fitness.OLD_STATE, "no state of the arm yet"
    age_ns = now_ns - stamp_ns
    if age_ns < 0:
        return Fitness.IMPOSSIBLE, f"state stamped {_ms(-age_ns)} in the future"
    if age_ns > max_age_s * 1e9:
        return Fitness.OLD_STATE, f"the state is {_ms(age_ns)} old, at most {_ms(max_age_s * 1e9)}"
    return Fitness.OK, ""


def _skew_problem(stamps: Mapping[str, int], max_skew_s: float) -> str:
    oldest, newest = min(stamps, key=stamps.__getitem__), max(stamps, key=stamps.__getitem__)
    skew_ns = stamps[newest] - stamps[oldest]
    if skew_ns <= max_skew_s * 1e9:
        return ""
    return f"{oldest} is {_ms(skew_ns)} older than {newest}, at most {_ms(max_skew_s * 1e9)}"


def _ms(duration_ns: float) -> str:
    return f"{duration_ns / 1e6:.1f} ms"
