"""The plan of the suite: the reference schedule, with limits tight enough that breaking them shows."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import profiles
from edgevla.control.plan import PlannedCamera, RunPlan
from edgevla.control.schedule import Schedule
from profiles.model import ArmProfile, Channel

PERIOD_S = 0.0125
_TIGHT = {"max_acceleration": 16.0, "stop_deceleration": 8.0, "max_jerk": 1280.0}


def tight_arm(**changes: Any) -> ArmProfile:
    """The reference arm (the virtual arm's watchdog, ranges, speed) with 16 m/s^2 in place of the simulator's jumps."""
    arm = profiles.load_arm("metaworld-sawyer")
    return replace(arm, channels=tuple(_tight(channel) for channel in arm.channels), **changes)


def _tight(channel: Channel) -> Channel:
    known = {field.name for field in fields(channel)}
    scale = channel.max_velocity / 0.8  # the gripper's unit is no metre
    return replace(channel, **{name: value * scale for name, value in _TIGHT.items() if name in known})


def plan(arm: ArmProfile | None = None, **target: Any) -> RunPlan:
    """H 32, d 2, r 8, m 2 at 80 Hz; ages as the profile has them."""
    arm = arm or tight_arm()
    return RunPlan(
        policy="swaying",
        bundle="none",
        engine="tests.faults.engine:swaying",
        arm=arm,
        target=replace(profiles.load_target("host"), **target),
        schedule=Schedule(32, 2, 8, 2),
        period_s=PERIOD_S,
        kinds=("delta", "delta", "delta", "absolute"),
        scale=(0.01, 0.01, 0.01, 1.0),
        offset=(0.0, 0.0, 0.0, 0.0),
        start_low=arm.start_low,
        start_high=arm.start_high,
        observations=1,
        blend_ticks=None,
        cameras=(PlannedCamera("corner", 96, 96, 40.0, arm.cameras[0].max_age_s, "refuse"),),
    )
