"""CiA 402 drives on a virtual CAN bus, with the object dictionary of `drive.eds`.

Kept as on real ones: configuration is lost with the power; heartbeat monitoring begins with the host's first heartbeat
and its loss acts as 6007 and 1029 say; SDOs are aborted with codes; PDO maps change only while the PDO is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from firmware_bridge.arm import Joint
from firmware_bridge.cia402 import config
from firmware_bridge.cia402.drive import VirtualDrive
from firmware_bridge.config import Option
from firmware_bridge.options import read
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.device import Reply
from firmware_bridge.virtual.plant import JointPlant

_FAULTS = {"overload": 0x2310, "overheat": 0x4310, "voltage": 0x3220, "encoder": 0x7305}
# What only the driver knows is allowed: a profile has one set of options.
_OPTIONS: Mapping[str, tuple[type, Option | None]] = {**config.OPTIONS, "brakes": (bool, True)}


class Cia402Device:
    """All drives of one bus; `joints` in the plant's order."""

    def __init__(self, joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Option]) -> None:
        brakes = bool(read("the virtual CiA 402 drive", options, _OPTIONS)["brakes"])
        self.plant = plant
        self.drives = [VirtualDrive(joint.id, index, plant, brakes) for index, joint in enumerate(joints)]
        self._powered = True

    def feed(self, data: Frame, now_us: int) -> list[Reply]:
        if not self._powered or data.extended or data.fd or data.remote:
            return []
        self.plant.run_to(now_us)
        heard = data.id
        return [
            Reply(frame, 0, joint)
            for joint, drive in enumerate(self.drives)
            if heard in drive.ids
            for frame in drive.feed(data, now_us)
        ]

    def tick(self, now_us: int) -> list[Reply]:
        if not self._powered:
            return []
        self.plant.run_to(now_us)
        return [Reply(frame, 0, joint) for joint, drive in enumerate(self.drives) for frame in drive.tick(now_us)]

    def power(self, on: bool, now_us: int) -> None:
        self._powered = on
        self.plant.run_to(now_us)
        for drive in self.drives:
            drive.start()

    def fault(self, joint: int, name: str) -> None:
        if name not in _FAULTS:
            raise ValueError(f"faults of a CiA 402 drive: {sorted(_FAULTS)}")
        self.drives[joint].fail(_FAULTS[name])

    def report(self) -> Mapping[str, Any]:
        counts = [asdict(drive.counts) for drive in self.drives]
        return {
            **{name: sum(row[name] for row in counts) for name in counts[0]},
            "states": [drive.state.name for drive in self.drives],
            "errors": [drive.error for drive in self.drives],
            "nmt": [drive.nmt for drive in self.drives],
        }


def make(joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Option]) -> Cia402Device:
    """See `protocols`. Option `brakes` (bool): a brake holds each joint that has no torque."""
    return Cia402Device(joints, plant, options)
