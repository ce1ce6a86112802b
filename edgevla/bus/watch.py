"""Watching an arm without arming it: states with their age."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevla.errors import Usage, explain
from firmware_bridge.arm import Arm, Fault, Float32, JointState, Mode
from firmware_bridge.errors import BridgeError
from profiles import ArmProfile
from profiles.bridge import arm_config, parse_ports


def opened(profile: ArmProfile, port: str) -> Arm:
    """The profile's driver on `port` (or `left=can0,right=can1`), not connected. Raises Usage without a port."""
    from firmware_bridge.protocols import open_arm

    if not port:
        todo = "pass --port PATH; `edgevla bus scan` finds it, `edgevla sim-arm` starts a virtual one"
        raise Usage(explain(f"where is {profile.name}?", "--port", "none", todo))
    return open_arm(arm_config(profile, parse_ports(profile, port)))


@dataclass(frozen=True)
class Seen:
    """One look: the newest state, or why there is none; `rate_hz` of whole states."""

    state: JointState | None
    age_ms: float
    rate_hz: float
    error: str = ""


def watch(arm: Arm, period_s: float, cycles: int = 0) -> Iterator[Seen]:
    """Ask every `period_s`; for ever, or `cycles` times. Raises PortGone, BusOff."""
    times: list[int] = []
    done = 0
    next_ns = time.monotonic_ns()
    while not cycles or done < cycles:
        next_ns = max(next_ns + int(period_s * 1e9), time.monotonic_ns())
        arm.request_state()
        state = _newest(arm, next_ns)
        now_ns = time.monotonic_ns()
        if state is None:
            yield Seen(None, float("nan"), 0.0, _first_line(arm.silence()))
        else:
            times = [*times[-20:], now_ns]
            rate = (len(times) - 1) * 1e9 / max(1, times[-1] - times[0]) if len(times) > 1 else 0.0
            yield Seen(state, (now_ns - state.stamp_ns) * 1e-6, rate)
        done += 1
        time.sleep(max(0, next_ns - time.monotonic_ns()) * 1e-9)


def _newest(arm: Arm, deadline_ns: int) -> JointState | None:
    while arm.wait_readable(deadline_ns):
        state = arm.poll()
        if state is not None:
            return state
        if time.monotonic_ns() >= deadline_ns:
            break
    return None


def rows(profile: ArmProfile, state: JointState) -> list[dict[str, Any]]:
    """One per joint; None where the arm does not measure it."""
    codes = state.joint_faults or (0,) * len(state.position)
    return [
        {
            "joint": channel.name,
            "unit": channel.unit,
            "position": float(state.position[i]),
            "velocity": _value(state.velocity, i),
            "effort": _value(state.effort, i),
            "temperature_c": _value(state.temperature, i),
            "inside": channel.minimum <= float(state.position[i]) <= channel.maximum,
            "code": codes[i],
        }
        for i, channel in enumerate(profile.channels)
    ]


def heading(seen: Seen) -> str:
    """One line above the table."""
    if seen.state is None:
        return f"no state: {seen.error}"
    faults = "|".join(fault.name or "" for fault in Fault if fault and seen.state.faults & fault) or "none"
    return (
        f"{Mode(seen.state.mode).name}, faults {faults}, age {seen.age_ms:.1f} ms, {seen.rate_hz:.0f} states/s, torque "
        "is not touched; Ctrl-C ends"
    )


def _value(values: Float32 | None, index: int) -> float | None:
    if values is None or not np.isfinite(values[index]):
        return None
    return float(values[index])


def _first_line(error: BridgeError) -> str:
    return str(error).partition("\n")[0]
