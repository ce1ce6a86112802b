"""From an arm profile to what the bridge opens."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from inspect import signature

from firmware_bridge.arm import Arm, Joint
from firmware_bridge.config import ArmConfig, BusConfig
from firmware_bridge.errors import BridgeError, explain
from firmware_bridge.protocols import module, open_arm
from profiles.errors import ProfileError
from profiles.model import ArmProfile, Channel, Motor


def driver_of(arm: ArmProfile, ports: Mapping[str, str]) -> Arm:
    """The driver of the arm, not connected. Raises ProfileError for a profile that it does not take, BridgeError."""
    require_driver(arm)
    return open_arm(arm_config(arm, ports))


def require_driver(arm: ArmProfile) -> None:
    """Raises ProfileError unless models, ids, ranges and options are as the driver takes them. Opens nothing."""
    try:
        open_arm(arm_config(arm, {bus: f"nowhere/at/all/{bus}" for bus in arm.buses}))
    except BridgeError as error:
        raise ProfileError(str(error)) from None
    except ValueError as error:  # a number that no frame of this protocol can carry
        expected, todo = "ids and values that its frames can carry", "correct the numbers of its motors"
        raise ProfileError(explain(f"{arm.name} over {arm.protocol}", expected, error, todo)) from None


def arm_config(arm: ArmProfile, ports: Mapping[str, str]) -> ArmConfig:
    """`ports`: bus name -> port. Raises ProfileError for a bus without a port, or a port without a bus."""
    if set(ports) != set(arm.buses):
        expected, got = ", ".join(arm.buses), ", ".join(ports) or "none"
        todo = "pass --port PATH, or --port BUS=PATH for each bus"
        raise ProfileError(explain(f"ports for the buses of {arm.name}", expected, got, todo))
    buses = tuple(
        BusConfig(name, ports[name], arm.baud, joints_of(arm, name), arm.data_baud, channels_of(arm, name))
        for name in arm.buses
    )
    return ArmConfig(arm.protocol, buses, arm.watchdog_s, arm.options)


def parse_ports(arm: ArmProfile, text: str) -> dict[str, str]:
    """`--port`: a port for an arm on one bus, `left=can0,right=can1` for more. Raises ProfileError."""
    names_a_bus = re.fullmatch(r"\w+=.+", text) and not os.path.exists(text)
    if len(arm.buses) == 1 and not names_a_bus:
        return {arm.buses[0]: text}
    pairs = [part.partition("=") for part in text.split(",")]
    named = {name: port for name, equals, port in pairs if equals and port}
    if len(named) != len(pairs) or set(named) != set(arm.buses):
        expected = ",".join(f"{bus}=PORT" for bus in arm.buses)
        todo = "name a port for each bus of the profile, once"
        raise ProfileError(explain(f"--port of {arm.name}", expected, text, todo))
    _require_different(arm, named)
    return named


def _require_different(arm: ArmProfile, ports: Mapping[str, str]) -> None:
    """Raises ProfileError for one bus under two names: each motor would be asked twice."""
    buses: dict[str, str] = {}
    for name, port in ports.items():
        other = buses.setdefault(_bus_of(port), name)
        if other != name:
            got = f"{other}={ports[other]}, {name}={port}"
            todo = f"name the port of each; `edgevla bus scan --protocol {arm.protocol}` finds them"
            raise ProfileError(explain(f"--port: {other} and {name} are the same bus", "one port each", got, todo))


def _bus_of(port: str) -> str:
    """What a port leads to, whatever it is called: links followed, socketcan:can0 as can0."""
    scheme, colon, rest = port.removeprefix("socketcan:").partition(":")
    path = rest if colon else scheme
    return f"{scheme if colon else ''}{colon}{os.path.realpath(path) if os.path.exists(path) else path}"


def joints_of(arm: ArmProfile, bus: str) -> tuple[Joint, ...]:
    """The joints on one bus, in channel order; numbered from 0 where the controller knows its motors (edgelink)."""
    own = [Motor(id=index, model="", bus=arm.buses[0]) for index in range(len(arm.channels))]
    pairs = [(channel, channel.motor or motor) for channel, motor in zip(arm.channels, own, strict=True)]
    return tuple(_joint(channel, motor) for channel, motor in pairs if motor.bus == bus)


def channels_of(arm: ArmProfile, bus: str) -> tuple[int, ...]:
    """Which channels of the arm those joints are."""
    return tuple(i for i, channel in enumerate(arm.channels) if (channel.motor.bus if channel.motor else "main") == bus)


def wire_s(arm: ArmProfile) -> float:
    """Time that one exchange takes on the wire, s: of several buses, which work side by side, the longest.

    An option that changes it has the name of a parameter of the protocol's `cycle_ns`.
    """
    cycle_ns = module(arm.protocol, "codec").cycle_ns
    told = {name: value for name, value in arm.options.items() if name in signature(cycle_ns).parameters}
    return max(cycle_ns(joints_of(arm, bus), arm.baud, arm.data_baud, **told) for bus in arm.buses) * 1e-9


def _joint(channel: Channel, motor: Motor) -> Joint:
    return Joint(
        name=channel.name,
        unit=channel.unit,
        minimum=channel.minimum,
        maximum=channel.maximum,
        id=motor.id,
        model=motor.model,
        direction=motor.direction,
        zero_rad=motor.zero_rad,
        ratio=motor.ratio,
        kp=motor.kp,
        kd=motor.kd,
        torque_ff=motor.torque_ff,
        max_effort=channel.max_effort,
        reply_id=motor.reply_id,
    )
