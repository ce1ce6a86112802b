"""What a run needs to know, from bundle, target and arm: checked before any process starts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edgevla.bundle.manifest import Manifest
from edgevla.bundle.reader import Bundle
from edgevla.check.compatible import compatibility
from edgevla.control.schedule import Schedule
from edgevla.control.timing import evaluate, require, schedule_of
from edgevla.errors import Refused, explain
from edgevla.policy.process import BUNDLE_ENGINE
from profiles.model import ArmProfile, Target


@dataclass(frozen=True)
class RunPlan:
    """One policy on one target driving one arm."""

    policy: str  # name of the bundle
    bundle: str  # its folder
    engine: str  # dotted name of the engine factory
    arm: ArmProfile
    target: Target
    schedule: Schedule
    period_s: float
    kinds: tuple[str, ...]  # per channel: absolute | delta | velocity
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    start_low: tuple[float, ...]
    start_high: tuple[float, ...]
    width: int
    height: int
    max_frame_age_s: float


def plan_of(bundle: Bundle, target: Target, arm: ArmProfile, accept_no_watchdog: bool = False) -> RunPlan:
    """The plan of an opened bundle. Raises Refused on whatever cannot hold or does not fit, in numbers."""
    manifest = bundle.manifest
    _require_one_observation(manifest)
    timing = evaluate(manifest.timing, target, arm, cameras=manifest.cameras, accept_no_watchdog=accept_no_watchdog)
    require([*compatibility(manifest, target, arm), *timing])
    _require_known_torque_policy(arm)
    (camera,) = manifest.cameras
    spec = next(spec for spec in arm.cameras if spec.name == camera.name)
    return RunPlan(
        policy=manifest.name,
        bundle=str(bundle.path),
        engine=BUNDLE_ENGINE,
        arm=arm,
        target=target,
        schedule=schedule_of(manifest.timing, target),
        period_s=manifest.timing.period_s,
        kinds=tuple(channel.kind for channel in manifest.channels),
        scale=tuple(channel.scale for channel in manifest.channels),
        offset=tuple(channel.offset for channel in manifest.channels),
        start_low=manifest.start_low,
        start_high=manifest.start_high,
        width=camera.width,
        height=camera.height,
        max_frame_age_s=spec.max_age_s,
    )


def _require_one_observation(manifest: Manifest) -> None:
    """The loop hands one picture of one camera to the policy; a bundle that needs more is refused, never fed less."""
    cameras, past = len(manifest.cameras), manifest.observations
    if (cameras, past) != (1, 1):
        got = f"{cameras} cameras, {past} observations"
        todo = "this bundle can be verified and its latency measured; `run` drives policies of one camera so far"
        raise Refused(explain(f"`run` cannot feed {manifest.name}", "1 camera, 1 observation", got, todo))


def _require_known_torque_policy(arm: ArmProfile) -> None:
    """The ramp to a rest pose needs a rest pose, which profiles do not declare yet: refused, never ignored."""
    if arm.torque_policy == "ramp":
        raise Refused(
            explain(
                f"the torque policy of {arm.name} is not supported by `run`",
                "hold or off",
                arm.torque_policy,
                "set torque_policy in the arm profile to hold or off",
            )
        )
