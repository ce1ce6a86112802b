"""A virtual device as the server sees it: units in (bytes or frames), replies out, nothing of time but `now_us`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from firmware_bridge.virtual.plant import JointPlant


class Reply(NamedTuple):
    """One packet or frame of the device."""

    data: Any  # bytes, or transport.base.Frame
    delay_us: int = 0  # from the end of what it answers to its first bit (return delay)
    joint: int = -1  # whose it is, for faults that silence one; -1: of the whole device


class Device(Protocol):
    """All actuators of one bus. Byte-true: wrong, foreign or torn input is dropped as the real one drops it."""

    plant: JointPlant

    def feed(self, data: Any, now_us: int) -> list[Reply]:
        """Bytes in any pieces, or one whole frame, at the moment its last bit arrived."""

    def tick(self, now_us: int) -> list[Reply]:
        """At least every millisecond: watchdogs, the plant, messages that nobody asked for."""

    def power(self, on: bool, now_us: int) -> None:
        """Supply off: silent, torque off, volatile registers lost. On again: as after a cold start."""

    def fault(self, joint: int, name: str) -> None:
        """Raise the fault `name` (`overload`, `overheat`, `voltage`, `encoder`) at `joint`, as the real one reports it.

        Raises ValueError for a fault that this protocol does not know.
        """

    def report(self) -> Mapping[str, Any]:
        """What it took and what it refused, for tests and reports."""


def brown_out(device: Device, now_us: int) -> None:
    """The supply dips for an instant: volatile registers and torque are lost, the answers go on."""
    device.power(False, now_us)
    device.power(True, now_us)


def joint_of(value: int, joints: Sequence[object]) -> int:
    """`value` as an index of `joints`. Raises ValueError."""
    if not 0 <= value < len(joints):
        raise ValueError(f"joint 0..{len(joints) - 1}, got {value}")
    return value
