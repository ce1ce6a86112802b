"""What the service manager hears (sd_notify(3), without its library): ready, status, watchdog, stopping.

The watchdog is fed by the servo loop: only when its count of steps has risen since the last feed. A supervisor
that lives while the servo stands still starves it, and systemd ends the service.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

_MAX_STATUS = 500  # bytes


@dataclass(frozen=True)
class WatchdogFeed:
    """When to feed. `interval_ns` None: nobody watches."""

    interval_ns: int | None  # half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises
    fed_at_ns: int = 0
    fed_steps: int = 0

    @staticmethod
    def from_environment(environment: Mapping[str, str], pid: int) -> WatchdogFeed:
        """As systemd asks of process `pid`."""
        wanted = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        usec = int(wanted) if wanted.isascii() and wanted.isdigit() else 0
        return WatchdogFeed(usec * 1000 // 2 if meant and usec else None)

    def look(self, steps: int, now_ns: int) -> tuple[WatchdogFeed, bool]:
        """The feed after this look, and whether to feed now. `steps` ever made by the servo, CLOCK_MONOTONIC ns."""
        if self.interval_ns is None or steps <= self.fed_steps or now_ns - self.fed_at_ns < self.interval_ns:
            return self, False
        return replace(self, fed_at_ns=now_ns, fed_steps=steps), True


class Notifier:
    """Datagrams to the service manager; does nothing where none asked for them. Never waits, never raises."""

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address and self._address[0] in "/\0":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._status = ""

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> Notifier:
        return Notifier((os.environ if environment is None else environment).get("NOTIFY_SOCKET"))

    @property
    def wanted(self) -> bool:
        return self._socket is not None

    def ready(self) -> None:
        """The servo ticks, the policy answers: from here on the watchdog counts."""
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def feed(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, line: str) -> None:
        """One line for `systemctl status`; the same one again is not sent."""
        line = line.replace("\n", " ").encode()[:_MAX_STATUS].decode("utf-8", "ignore")
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is not None and self._address is not None:
            with contextlib.suppress(OSError):  # full or gone: a lost word is better than a held run
                self._socket.sendto(text.encode(), self._address)
