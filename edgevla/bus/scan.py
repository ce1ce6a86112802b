"""Who answers on this computer's serial ports and CAN interfaces. Asks only: commands and writes nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.bus.explain import installed
from firmware_bridge.errors import BaudRefused, BridgeError, PortError
from firmware_bridge.protocols import Found, module
from firmware_bridge.transport.open import kind_of, open_transport

BAUDS = {  # bit/s to try, the factory's or most common first
    "edgelink": (921_600,),
    "feetech": (1_000_000, 500_000, 115_200),
    "dynamixel": (57_600, 1_000_000, 115_200, 2_000_000, 3_000_000, 4_000_000),
}
CAN_BAUD = 1_000_000  # of an interface it was set by `ip link`; of slcan by us
FD_DATA_BAUD = {"moteus": 5_000_000}  # protocols that need CAN-FD
_NET, _ARPHRD_CAN = Path("/sys/class/net"), "280"  # linux/if_arp.h


Try = tuple[str, str, int]  # protocol, port, bit/s


@dataclass(frozen=True)
class Answer:
    """One try: who answered, or why it could not be asked. `port_failed`: nor can any other protocol there."""

    protocol: str
    port: str
    baud: int
    found: tuple[Found, ...]
    error: str = ""
    port_failed: bool = False


def serial_ports() -> list[str]:
    """USB serial ports by their stable names where there are some, and a microcontroller's own."""
    from serial.tools.list_ports import comports

    stable = {str(link.resolve()): str(link) for link in sorted(Path("/dev/serial/by-id").glob("*"))}
    return [stable.get(port.device, port.device) for port in sorted(comports()) if port.vid is not None]


def can_interfaces(net: Path = _NET) -> list[str]:
    """Names of the CAN interfaces that the kernel knows."""
    types = {path.parent.name: path for path in sorted(net.glob("*/type"))}
    return [name for name, path in types.items() if path.read_text().strip() == _ARPHRD_CAN]


def tries(protocols: Sequence[str], ports: Sequence[str], bauds: Sequence[int]) -> Iterator[Try]:
    """What to ask, in order; everything where nothing is named. A pty has no bit rate: it is asked at one."""
    for port in ports or [*serial_ports(), *can_interfaces()]:
        kind = kind_of(port)
        for protocol in installed(kind):
            if not protocols or protocol in protocols:
                known = BAUDS.get(protocol, (1_000_000,)) if kind == "serial" else (CAN_BAUD,)
                asked = bauds or (known[:1] if _is_pty(port) else known)
                yield from ((protocol, port, baud) for baud in asked)


def ports_of(text: str) -> list[str]:
    """The ports of `--port`; of `left=can0,right=can1`, as `edgevla sim-arm` prints it, each without its bus."""
    parts = [re.fullmatch(r"\w+=(.+)", part) for part in text.split(",")]
    return [part[1] for part in parts if part] if all(parts) else [text]


def _is_pty(port: str) -> bool:
    return str(Path(port).resolve()).startswith("/dev/pts/")


def ask(protocol: str, port: str, baud: int, ids: range | None = None) -> Answer:
    """One try. A port that cannot be opened is the `error` of its answer."""
    try:
        scan = module(protocol, "driver").scan
        transport = open_transport(kind_of(port), port, baud, FD_DATA_BAUD.get(protocol))
    except ImportError as error:  # the others are asked all the same
        return Answer(protocol, port, baud, (), f"{protocol} was not asked: {error.name} is missing (extra `can`)")
    more: dict[str, Any] = {"ids": ids} if ids is not None and "ids" in inspect.signature(scan).parameters else {}
    try:
        transport.open()
        found = tuple(one for one in scan(transport, **more) if ids is None or one.id in ids or protocol == "edgelink")
    except ImportError as error:
        return Answer(protocol, port, baud, (), f"{protocol} was not asked: {error.name} is missing (extra `can`)")
    except BridgeError as error:
        failed = isinstance(error, PortError) and not isinstance(error, BaudRefused) and protocol not in FD_DATA_BAUD
        return Answer(protocol, port, baud, (), str(error), failed)
    finally:
        transport.close()
    return Answer(protocol, port, baud, found)
