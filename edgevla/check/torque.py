"""Is the arm's torque on? A look that changes nothing in any actuator, where nothing else holds the port."""

from __future__ import annotations

from edgevla.bus.watch import opened
from firmware_bridge.arm import Mode
from firmware_bridge.errors import BridgeError
from firmware_bridge.torque import look
from profiles import ArmProfile


def torque_of(profile: ArmProfile, port: str) -> tuple[str, str]:
    """("off" | "on" | "unknown", why). Raises ProfileError, Usage for a port that is none; a silent arm is unknown."""
    link = opened(profile, port)
    try:
        seen = look(link)
    except BridgeError as error:
        return "unknown", str(error).splitlines()[0]
    if isinstance(seen, Mode):
        return ("off" if seen is Mode.DISARMED else "on"), f"its controller is {seen.name}"
    return torque_words([channel.name for channel in profile.channels], seen)


def torque_words(names: list[str], seen: tuple[bool | None, ...]) -> tuple[str, str]:
    """One word for all joints, and why. Pure."""
    on = [name for name, has in zip(names, seen, strict=True) if has]
    silent = [name for name, has in zip(names, seen, strict=True) if has is None]
    if on:
        return "on", f"torque is on at {', '.join(on)}"
    if silent:
        return "unknown", f"{', '.join(silent)} did not tell"
    return "off", f"all {len(names)} joints report torque off"
