"""The protocols by name. Each is a folder with the same files and the same names inside:

codec.py    pure. `describe(unit) -> str`: a sentence for any bytes or frame, for people. `command_ns(config)` etc.
driver.py   `make(bus, watchdog_s, options) -> Arm`; `scan(port, baud) -> list[Found]`
virtual.py  `make(joints, plant, options) -> Device`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from firmware_bridge.arm import Arm
from firmware_bridge.config import ArmConfig
from firmware_bridge.errors import BridgeError, explain

KINDS: Mapping[str, str] = {  # protocol -> what carries it
    "edgelink": "serial",
    "feetech": "serial",
    "dynamixel": "serial",
    "damiao": "can",
    "odrive": "can",
    "cia402": "can",
    "moteus": "can",
}


@dataclass(frozen=True)
class Found:
    """One device that answered a scan."""

    id: int
    model: str
    firmware: str
    note: str = ""


def module(protocol: str, part: str) -> ModuleType:
    """`codec`, `driver` or `virtual` of a protocol. Raises BridgeError for a protocol that is not there."""
    if protocol not in KINDS:
        raise BridgeError(explain("unknown protocol", ", ".join(KINDS), protocol, "name one of them"))
    return import_module(f"firmware_bridge.{protocol}.{part}")


def open_arm(config: ArmConfig) -> Arm:
    """The driver for `config`, not yet connected; of several buses one that works on all of them at once.

    Raises BridgeError for a protocol that is not there, or that drives its actuators over one line only.
    """
    make = module(config.protocol, "driver").make
    arms: list[Arm] = [make(bus, config.watchdog_s, config.options) for bus in config.buses]
    if len(arms) == 1:
        return arms[0]
    group = import_module("firmware_bridge.group")  # it needs the drivers' base, which needs this
    arm: Arm = group.ArmGroup.of(config, arms)
    return arm
