"""What arming asks of the arm and remembers of it. Pure."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from edgevla.control.config import ServoConfig
from edgevla.errors import Refused, explain
from firmware_bridge.arm import ArmInfo, Fault, LinkCounts


def added(one: LinkCounts, other: LinkCounts) -> LinkCounts:
    """Both together."""
    refusals = {
        key: one.refusals.get(key, 0) + other.refusals.get(key, 0) for key in {**one.refusals, **other.refusals}
    }
    numbers = {name: value + getattr(other, name) for name, value in asdict(one).items() if name != "refusals"}
    return LinkCounts(**numbers, refusals=refusals)


def fault_words(faults: int) -> str:
    names = [fault.name or "" for fault in Fault if fault and faults & fault]
    return ", ".join(name.lower() for name in names) or "no fault given"


def require_start_range(config: ServoConfig, info: ArmInfo) -> None:
    """Raises Refused when the held set-point is outside the bundle's or the arm's start range."""
    low = np.maximum(config.start_low, config.arm.start_low)
    high = np.minimum(config.start_high, config.arm.start_high)
    slack = 1e-6 * np.maximum(1.0, np.abs(high))  # float32 on the wire
    for i, channel in enumerate(config.arm.channels):
        held = float(info.held_setpoint[i])
        if not low[i] - slack[i] <= held <= high[i] + slack[i]:
            raise Refused(
                explain(
                    f"the arm is outside the start range in {channel.name}",
                    f"{low[i]:g} .. {high[i]:g} {channel.unit}",
                    f"{held:g} {channel.unit}",
                    _into_the_start_range(config, i, held),
                )
            )


def _into_the_start_range(config: ServoConfig, channel: int, held: float) -> str:
    """What to type; `arm home` knows the arm's start range, not that of the bundle inside it."""
    arm = config.arm
    if arm.start_low[channel] <= held <= arm.start_high[channel]:
        return "move the arm by hand to where the bundle starts: it is in the start range of its own profile"
    swapped = f"; or swap the ports of {' and '.join(arm.buses)}, if each cable is on the other's"
    todo = f"`{config.home}`, then run again" if config.home else "move the arm into the start range before arming"
    return todo + (swapped if len(arm.buses) > 1 else "")
