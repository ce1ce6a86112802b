"""What a run needs to know, from bundle, target and arm: checked before any process starts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edgevla.bundle.manifest import Manifest
from edgevla.bundle.reader import Bundle
from edgevla.check.compatible import compatibility
from edgevla.control.guardian import require_guardian
from edgevla.control.schedule import Schedule
from edgevla.control.timing import evaluate, require, schedule_of, servo_period_s
from edgevla.errors import Refused, Usage, explain
from edgevla.policy.blend import blend_ticks, blend_ticks_of, takes_prefix
from edgevla.policy.process import BUNDLE_ENGINE
from profiles.model import ArmProfile, Target


@dataclass(frozen=True)
class PlannedCamera:
    """One camera of the bundle, with the ages of the arm's profile."""

    name: str
    width: int
    height: int
    rate_hz: float
    max_age_s: float
    when_missing: str  # refuse | blank


@dataclass(frozen=True)
class RunPlan:
    """One policy on one target driving one arm."""

    policy: str  # name of the bundle
    bundle: str  # its folder
    engine: str  # dotted name of the engine factory
    arm: ArmProfile
    target: Target
    schedule: Schedule
    blend_ticks: int | None  # b; None: the policy is given the prefix
    period_s: float
    kinds: tuple[str, ...]  # per channel: absolute | delta | velocity
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    start_low: tuple[float, ...]
    start_high: tuple[float, ...]
    observations: int  # T
    cameras: tuple[PlannedCamera, ...]
    bundle_sha256: str = ""  # of the manifest


SEAMS = ("auto", "prefix", "blend")


def plan_of(
    bundle: Bundle, target: Target, arm: ArmProfile, accept_no_watchdog: bool = False, seam: str = "auto"
) -> RunPlan:
    """The plan of an opened bundle. Raises Refused on whatever cannot hold or does not fit, in numbers.

    seam: how chunks are joined; auto: by the prefix where the policy takes one, else by the blend.
    """
    manifest = bundle.manifest
    blend = seam_ticks(manifest, seam)
    timing = evaluate(manifest.timing, target, arm, None, manifest.cameras, accept_no_watchdog, blend)
    require([*compatibility(manifest, target, arm), *timing])
    _require_known_torque_policy(arm)
    if arm.watchdog_s is None:
        require_guardian(arm, servo_period_s(manifest.timing, target))
    return RunPlan(
        policy=manifest.name,
        bundle=str(bundle.path),
        engine=BUNDLE_ENGINE,
        arm=arm,
        target=target,
        schedule=schedule_of(manifest.timing, target, blend),
        blend_ticks=blend,
        period_s=manifest.timing.period_s,
        kinds=tuple(channel.kind for channel in manifest.channels),
        scale=tuple(channel.scale for channel in manifest.channels),
        offset=tuple(channel.offset for channel in manifest.channels),
        start_low=manifest.start_low,
        start_high=manifest.start_high,
        observations=manifest.observations,
        cameras=_cameras(manifest, arm),
        bundle_sha256=bundle.sha256,
    )


def seam_ticks(manifest: Manifest, seam: str) -> int | None:
    """b of the blend, or None for the prefix. Raises Refused when the policy takes none, Usage on another word."""
    if seam not in SEAMS:
        raise Usage(explain("unknown --seam", " or ".join(SEAMS), repr(seam), "see docs/seams.md"))
    if seam == "prefix" and not takes_prefix(manifest):
        todo = "take --seam blend, or export a policy that was trained with a prefix"
        raise Refused(explain(f"{manifest.name} takes no prefix", "a graph with the input `prefix`", "none", todo))
    return blend_ticks(manifest.timing.period_s) if seam == "blend" else blend_ticks_of(manifest)


def _cameras(manifest: Manifest, arm: ArmProfile) -> tuple[PlannedCamera, ...]:
    """The bundle's cameras that the arm has; one that may be absent and is, is left out."""
    specs = {spec.name: spec for spec in arm.cameras}
    return tuple(
        PlannedCamera(c.name, c.width, c.height, specs[c.name].rate_hz, specs[c.name].max_age_s, c.when_missing)
        for c in manifest.cameras
        if c.name in specs
    )


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
