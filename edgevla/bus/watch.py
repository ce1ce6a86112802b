"""Watching an arm without arming it: states with their age."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevla.errors import Usage, explain
from firmware_bridge.arm import Arm, ArmInfo, Fault, Float32, JointState, Mode
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import BridgeError
from firmware_bridge.torque import torque_on
from profiles import ArmProfile
from profiles.bridge import driver_of, parse_ports
from profiles.model import Channel

SLACK = 0.005  # of a range, as `arm()` allows


def opened(profile: ArmProfile, port: str) -> Arm:
    """The profile's driver on `port` (or `left=can0,right=can1`), not connected. Raises Usage without a port."""
    if not port:
        todo = "pass --port PATH; `edgevla bus scan` finds it, `edgevla sim-arm` starts a virtual one"
        raise Usage(explain(f"where is {profile.name}?", "--port", "none", todo))
    return driver_of(profile, parse_ports(profile, port))


def looked_at(arm: Arm) -> ArmInfo:
    """Connected, to watch only: no mode and no torque changes, whoever armed it. Raises what connect() does."""
    return arm.look() if isinstance(arm, EdgelinkArm) else arm.connect()


@dataclass(frozen=True)
class Seen:
    """One look: the newest state, or why there is none; `rate_hz` of whole states."""

    state: JointState | None
    age_ms: float
    rate_hz: float
    error: str = ""
    torque: tuple[bool | None, ...] = ()  # as the actuators report it; () where a controller reports its mode


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
            yield Seen(state, (now_ns - state.stamp_ns) * 1e-6, rate, torque=torque_on(arm))
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


def rows(profile: ArmProfile, seen: Seen) -> list[dict[str, Any]]:
    """One per joint; None where the arm does not measure or report it."""
    state = seen.state
    if state is None:
        return []
    codes = state.joint_faults or (0,) * len(state.position)
    torque = seen.torque or (None,) * len(state.position)
    return [
        {
            "joint": channel.name,
            "unit": channel.unit,
            "position": float(state.position[i]),
            "velocity": _value(state.velocity, i),
            "effort": _value(state.effort, i),
            "temperature_c": _value(state.temperature, i),
            "torque_on": torque[i],
            "inside": _inside(channel, float(state.position[i])),
            "code": codes[i],
        }
        for i, channel in enumerate(profile.channels)
    ]


def _inside(channel: Channel, position: float) -> bool:
    """A joint that rests on its stop reads a little beyond it."""
    slack = SLACK * (channel.maximum - channel.minimum)
    return channel.minimum - slack <= position <= channel.maximum + slack


def heading(profile: ArmProfile, seen: Seen) -> str:
    """One line: what the arm reports of torque or mode, faults, age, rate. This program has armed nothing."""
    if seen.state is None:
        return f"no state: {seen.error}"
    faults = "|".join(fault.name or "" for fault in Fault if fault and seen.state.faults & fault) or "none"
    mode = controller_mode(seen)
    holds = f"its controller is {mode}" if mode is not None else _torque_words(profile, seen.torque)
    return f"{holds}; faults {faults}, age {seen.age_ms:.1f} ms, {seen.rate_hz:.0f} states/s"


def controller_mode(seen: Seen) -> str | None:
    """Of an arm with a controller of its own; None of actuators, whose driver's mode would be this program's own."""
    return Mode(seen.state.mode).name if seen.state is not None and not seen.torque else None


def _torque_words(profile: ArmProfile, torque: tuple[bool | None, ...]) -> str:
    on = [channel.name for channel, has in zip(profile.channels, torque, strict=True) if has]
    if not on:
        return "torque off" if all(has is False for has in torque) else "torque not reported"
    where = f"all {len(torque)} joints" if len(on) == len(torque) else ", ".join(on)
    return f"torque ON at {where} (this program has not armed it)"


def _value(values: Float32 | None, index: int) -> float | None:
    if values is None or not np.isfinite(values[index]):
        return None
    return float(values[index])


def _first_line(error: BridgeError) -> str:
    return str(error).partition("\n")[0]
