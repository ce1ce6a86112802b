"""Where to connect to, as typed: USER@HOST, HOST, HOST:PORT, USER@[IPv6]:PORT, or a name of ssh's config."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevla.errors import Usage, explain

_FORM = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]|(?P<name>[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})))"
    r"(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True)
class Destination:
    """One robot's address. None: as ssh's configuration says."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + shown + (f":{self.port}" if self.port else "")

    def ssh_line(self) -> str:
        """The line that opens the same connection with OpenSSH's own client."""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {port}{self.user}@{self.host}" if self.user else f"ssh {port}{self.host}"


def parse_destination(text: str) -> Destination:
    """The address in `text`. A password in it is refused, as is everything that could be read as an option. Raises
    Usage."""
    match = _FORM.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65_536):
        got = "a password in the address" if re.match(r"[^@/]+:[^@/]+@", text) else repr(text[:200])
        expected = "USER@HOST, HOST, USER@HOST:PORT, USER@[IPv6]:PORT or a Host of ~/.ssh/config"
        raise Usage(explain("--host is no address", expected, got, "e.g. --host robot@192.168.1.20"))
    return Destination(match["v6"] or match["name"], match["user"], port)
