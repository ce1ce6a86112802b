"""What is measured of one protocol, and what its peer file must say.

bench/bus/peers/NAME.py      `case(joints) -> Case`; `LIBRARY`: the peer's name, or None where there is none, and then
                             `WHY_NONE`; `connect(port, case) -> Peer`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any, Protocol

from edgevla.errors import Usage, explain
from firmware_bridge.arm import Joint
from firmware_bridge.config import ArmConfig, BusConfig, Option
from firmware_bridge.protocols import KINDS, module


@dataclass(frozen=True)
class Case:
    """One arm on one bus. `options`: of the driver; `device`: of the virtual device, the driver's own where None."""

    protocol: str
    joints: tuple[Joint, ...]
    baud: int
    data_baud: int | None = None
    watchdog_s: float | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    device: Mapping[str, Option] | None = None
    fast_wire_ns: int | None = None  # where the driver's options make an exchange shorter than the codec's bound

    def config(self, port: str) -> ArmConfig:
        bus = BusConfig("bench", port, self.baud, self.joints, self.data_baud)
        return ArmConfig(self.protocol, (bus,), self.watchdog_s, self.options)

    @property
    def wire_ns(self) -> int:
        """Of one exchange, without return delays."""
        if self.fast_wire_ns is not None:
            return self.fast_wire_ns
        cycle_ns = module(self.protocol, "codec").cycle_ns
        told = {name: value for name, value in self.options.items() if name in signature(cycle_ns).parameters}
        return int(cycle_ns(self.joints, self.baud, self.data_baud, **told))

    @property
    def name(self) -> str:
        return f"{self.protocol} x{len(self.joints)}"


class Peer(Protocol):
    """The maker's library doing the same exchange: goals out, positions in, of every joint."""

    def exchange(self, setpoint: Sequence[float]) -> None:
        """`setpoint` (n,) in channel units. Raises Unsound when a joint did not answer."""

    def close(self) -> None: ...


def peer_module(protocol: str) -> ModuleType:
    """bench/bus/peers/NAME.py. Raises Usage for a protocol without one."""
    if protocol not in KINDS:
        todo = "name one of them with --protocol"
        raise Usage(explain("a protocol that is not known", ", ".join(KINDS), protocol, todo))
    return import_module(f"bench.bus.peers.{protocol}")


def same(count: int, **fields: Any) -> tuple[Joint, ...]:
    """`count` joints of ids 1.., alike but for their names."""
    return tuple(Joint(name=f"joint{i}", id=i, **fields) for i in range(1, count + 1))
