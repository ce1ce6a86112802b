"""Plans of the real loop at a chosen servo rate: from a bundle, or without one (a policy of a few lines)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import profiles
from edgevla.bundle import Bundle, open_bundle
from edgevla.control.plan import PlannedCamera, RunPlan, plan_of
from edgevla.control.schedule import Schedule
from edgevla.errors import Unsound, Usage, explain
from profiles import ArmProfile

TARGET, ARM = "host", "metaworld-sawyer"
PERIOD_S = 0.0125  # T of the reference policy
_SERVO_HZ = (1.0, 2000.0)


def servo_ratio(servo_hz: float, period_s: float) -> int:
    """n = T / Ts: the smallest whole one that gives at least `servo_hz`. Raises Usage outside 1 .. 2000 Hz."""
    if not _SERVO_HZ[0] <= servo_hz <= _SERVO_HZ[1]:
        expected = f"{_SERVO_HZ[0]:g} .. {_SERVO_HZ[1]:g} Hz"
        raise Usage(explain("no servo rate", expected, servo_hz, "pass another --servo-hz"))
    return max(1, math.ceil(servo_hz * period_s - 1e-9))


def patrol_plan(servo_hz: float) -> RunPlan:
    """The reference arm and target, driven to and fro by `bench.loop.engine` instead of a bundle."""
    arm, target = profiles.load_arm(ARM), profiles.load_target(TARGET)
    low, high = arm.start_low, arm.start_high
    return RunPlan(
        policy="patrol",
        bundle="none",
        engine="bench.loop.engine:patrol",
        arm=arm,
        target=replace(target, servo_ratio=servo_ratio(servo_hz, PERIOD_S)),
        schedule=Schedule(horizon=32, delay=2, replan=8, survive=2),
        blend_ticks=None,
        period_s=PERIOD_S,
        kinds=("delta", "delta", "delta", "absolute"),
        scale=(0.01, 0.01, 0.01, 1.0),
        offset=(0.0, 0.0, 0.0, 0.0),
        start_low=low,
        start_high=high,
        observations=1,
        cameras=(_drawn(arm),),
    )


def _drawn(arm: ArmProfile) -> PlannedCamera:
    """The one camera whose frames the virtual arm draws: the arm's first."""
    camera = arm.cameras[0]
    return PlannedCamera(camera.name, camera.width, camera.height, camera.rate_hz, camera.max_age_s, "refuse")


def bundle_plan(path: Path, servo_hz: float | None) -> tuple[Bundle, RunPlan]:
    """Bundle and its plan on its own target and arm; None: the servo rate of the target."""
    bundle = open_bundle(path)
    target, arm = profiles.load_target(bundle.manifest.target), profiles.load_arm(bundle.manifest.arm)
    if servo_hz is not None:
        target = replace(target, servo_ratio=servo_ratio(servo_hz, bundle.manifest.timing.period_s))
    return bundle, plan_of(bundle, target, arm)


def instruction_of(bundle: Bundle) -> str:
    """One the bundle was made with: of its first golden vector."""
    for golden in bundle.golden.values():
        return golden.instruction
    todo = "pass one with --instruction"
    raise Unsound(explain("no instruction to run with", "a golden vector in the bundle", "none", todo))
