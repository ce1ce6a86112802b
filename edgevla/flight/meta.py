"""What stands at the head of a flight record: which policy, which arm, which schedule, which machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from edgevla.bundle.reader import Bundle
from edgevla.control.commands import Setup, Units, ladder_of
from edgevla.control.limiter import limits_of
from edgevla.control.schedule import Schedule
from edgevla.errors import BadInput, explain
from profiles.model import ArmProfile, CameraSpec, Channel, StateChannel, Target


def meta_of(
    bundle: Bundle, arm: ArmProfile, target: Target, schedule: Schedule, instruction: str, host: Mapping[str, Any]
) -> dict[str, Any]:
    """JSON. `instruction` is that of epoch 0; `host` is of `telemetry.host.describe_host`."""
    manifest = bundle.manifest
    return {
        "bundle": {
            "name": bundle.path.name,
            "policy": manifest.name,
            "manifest_sha256": bundle.sha256,
        },
        "observations": manifest.observations,
        "period_s": manifest.timing.period_s,
        "schedule": asdict(schedule),
        "actions": [{"name": c.name, "kind": c.kind, "unit": c.unit, "scale": c.scale, "offset": c.offset,
                     "minimum": c.minimum, "maximum": c.maximum} for c in manifest.channels],
        "states": [{"name": s.name, "unit": s.unit} for s in manifest.state],
        "cameras": {c.name: [c.height, c.width] for c in manifest.cameras},
        "arm": asdict(arm),
        "target": asdict(target),
        "instructions": {"0": instruction},
        "host": dict(host),
        "clock": "CLOCK_MONOTONIC, ns",
    }  # fmt: skip


def setup_of(meta: Mapping[str, Any]) -> Setup:
    """What the control side was set up with. Raises BadInput naming what is missing."""
    try:
        arm = dict(meta["arm"])
        arm["channels"] = tuple(Channel(**item) for item in arm["channels"])
        arm["state"] = tuple(StateChannel(**item) for item in arm["state"])
        arm["cameras"] = tuple(CameraSpec(**item) for item in arm["cameras"])
        arm |= {key: tuple(value) for key, value in arm.items() if isinstance(value, list)}
        actions = meta["actions"]
        units = Units(
            tuple(item["kind"] for item in actions),
            np.array([item["scale"] for item in actions], np.float64),
            np.array([item["offset"] for item in actions], np.float64),
            float(meta["period_s"]),
        )
        profile = ArmProfile(**arm)
        waits = ladder_of(profile.hold_s, profile.torque_s, units.period_s)
        schedule, ratio = Schedule(**meta["schedule"]), int(meta["target"]["servo_ratio"])
        return Setup(schedule, waits, limits_of(profile), units, ratio)
    except (KeyError, TypeError, ValueError) as error:
        got, todo = f"{type(error).__name__}: {error}", "replay it with the edgevla that recorded it"
        raise BadInput(explain("meta of the flight record", "a schedule, an arm, actions", got, todo)) from None


def instructions_of(meta: Mapping[str, Any], events: list[dict[str, Any]]) -> dict[int, str]:
    """Instruction by epoch: that of the start, and each change (event `instruction` with `epoch` and `text`)."""
    told = {int(epoch): str(text) for epoch, text in dict(meta.get("instructions", {})).items()}
    changes = [event for event in events if event.get("event") == "instruction"]
    return told | {int(event["epoch"]): str(event["text"]) for event in changes if "epoch" in event and "text" in event}
