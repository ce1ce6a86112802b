"""The device of a recording, on a port: it answers as it did, as long as it hears what it heard."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_bridge.errors import PortGone
from firmware_bridge.transport.log import Log, What
from firmware_bridge.transport.recording import Replaying, units
from firmware_bridge.virtual.server import PtyPort, UnixCanPort

QUIET_S = 60.0  # s without a byte from the host: nobody is coming any more


def serve(path: str | Path, log: Log, announce: Callable[[str], None], quiet_s: float = QUIET_S) -> int:
    """Until the recording is over or the host silent for `quiet_s`; how many records the host has written.

    Raises ReplayDiffers at the first byte or frame that the host writes otherwise than then.
    """
    port: Any = PtyPort() if log.kind == "serial" else UnixCanPort()
    device = Replaying(path)
    device.open()
    left = sum(len(unit) if log.kind == "serial" else 1 for unit in units(log.records, What.WROTE))
    heard, until = 0, time.monotonic() + quiet_s
    try:
        announce(port.name)
        while left > 0 and time.monotonic() < until:
            for fd in select.select(port.fds, [], [], 0.1)[0]:
                for unit in port.read(fd):
                    until = time.monotonic() + quiet_s
                    device.write(unit if log.kind == "serial" else [unit])
                    left -= len(unit) if log.kind == "serial" else 1
                    heard += 1
                    _answer(device, port, log.kind)
        time.sleep(0.2)  # the host reads the last answer before the port goes
    finally:
        port.close()
    return heard


def _answer(device: Replaying, port: Any, kind: str) -> None:
    try:
        while device.wait_readable(0):
            for unit in [device.read()] if kind == "serial" else device.read():
                port.write(unit)
    except PortGone:
        return  # its end
