"""Which arm, on which buses: what `protocols.open_arm` needs and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from firmware_bridge.arm import Joint

Option = float | int | str | bool


@dataclass(frozen=True)
class BusConfig:
    """One bus and the joints on it, in channel order."""

    name: str
    port: str  # /dev/ttyACM0, can0, or the path of a virtual bus
    baud: int  # bit/s; of CAN-FD the arbitration phase
    joints: tuple[Joint, ...]
    data_baud: int | None = None  # bit/s of CAN-FD's data phase; None: CAN 2.0, or serial
    channels: tuple[int, ...] | None = None  # of the arm, one per joint; None: they follow those of the bus before


@dataclass(frozen=True)
class ArmConfig:
    """An arm over one or more buses. `options` are the protocol's own; its driver refuses those it does not know."""

    protocol: str
    buses: tuple[BusConfig, ...]
    watchdog_s: float | None  # None: the actuators have none
    options: Mapping[str, Option] = field(default_factory=dict)
