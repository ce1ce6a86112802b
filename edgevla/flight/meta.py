"""The head of a flight record as values again: see `control.children.record_meta`, which writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgevla.control.commands import Setup, Units, ladder_of
from edgevla.control.config import arm_of
from edgevla.control.limiter import limits_of
from edgevla.control.schedule import Schedule
from edgevla.errors import BadInput, explain


def setup_of(meta: Mapping[str, Any]) -> Setup:
    """What the control side was set up with. Raises BadInput naming what is missing."""
    try:
        scale, offset = (np.array(meta[key], np.float64) for key in ("scale", "offset"))
        units = Units(tuple(meta["kinds"]), scale, offset, float(meta["period_s"]))
        profile = arm_of(meta["arm"])
        waits = ladder_of(profile.hold_s, profile.torque_s, units.period_s)
        schedule, ratio = Schedule(**meta["schedule"]), int(meta["servo_ratio"])
        return Setup(schedule, waits, limits_of(profile, units.period_s / ratio), units, ratio)
    except (KeyError, TypeError, ValueError) as error:
        got, todo = f"{type(error).__name__}: {error}", "replay it with the edgevla that recorded it"
        raise BadInput(explain("meta of the flight record", "a schedule, an arm, actions", got, todo)) from None


def instructions_of(meta: Mapping[str, Any], events: list[dict[str, Any]]) -> dict[int, str]:
    """Instruction by epoch: that of the start, and each change (event `instruction` with `epoch` and `text`)."""
    told = {0: str(meta.get("instruction", ""))}
    changes = [event for event in events if event.get("event") == "instruction"]
    return told | {int(event["epoch"]): str(event["text"]) for event in changes if "epoch" in event and "text" in event}


def cameras_in(meta: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(height, width) by camera."""
    return {camera["name"]: (int(camera["height"]), int(camera["width"])) for camera in meta.get("cameras", ())}
