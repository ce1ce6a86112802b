"""One SSH connection to the robot, with what the system's ssh would use: config, ProxyJump, agent, keys, known_hosts.

Stricter in one point: an unknown host key is refused whatever the config says, with the line that accepts it.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from edgevla.deploy.ask import ask_secret, on_terminal
from edgevla.deploy.destination import Destination
from edgevla.deploy.ssh_errors import OfferedKey, connect_error, host_key_error
from edgevla.errors import BadInput, DeviceFault, explain

CONNECT_TIMEOUT_S = 15.0
KEEPALIVE_S = 5.0  # a peer that is gone is noticed after three of these
COMMAND_TIMEOUT_S = 30.0
_CONFIGS = ("~/.ssh/config", "/etc/ssh/ssh_config")
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")

asyncssh.set_log_level("CRITICAL")  # each failure is said once, by us


@dataclass(frozen=True)
class Answer:
    """What a short command on the robot printed."""

    status: int  # -1: killed by a signal
    stdout: str
    stderr: str


class Connection:
    """An open connection; channels on it cost a round trip and no new handshake."""

    def __init__(self, inner: asyncssh.SSHClientConnection, where: Destination) -> None:
        self._inner, self.where = inner, where

    async def run(self, command: str, stdin: bytes = b"", timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run one shell line; its exit status is for the caller to judge. Raises DeviceFault."""
        try:
            done = await asyncio.wait_for(self._inner.run(command, input=stdin, encoding=None), timeout_s)
        except asyncio.TimeoutError:
            raise DeviceFault(
                explain(f"{self.where}: a command did not end", f"an end within {timeout_s:g} s", command[:80], _LOOK)
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise connect_error(self.where, error, timeout_s) from error
        return Answer(done.exit_status if done.exit_status is not None else -1, _text(done.stdout), _text(done.stderr))

    async def start(self, command: Sequence[str]) -> asyncssh.SSHClientProcess[bytes]:
        """Start a program whose stdin and stdout are streams of bytes. Raises DeviceFault."""
        try:
            return await self._inner.create_process(shlex.join(command), encoding=None)
        except (OSError, asyncssh.Error) as error:
            raise connect_error(self.where, error, COMMAND_TIMEOUT_S) from error


@asynccontextmanager
async def connect(
    where: Destination, ssh_config: Path | None = None, timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncIterator[Connection]:
    """Open the connection; closed at the end of the block.

    ssh_config: in place of ~/.ssh/config and /etc/ssh/ssh_config, as `ssh -F`.
    Raises Refused (host key unknown or changed), DeviceFault (no route, refused, no answer, authentication), BadInput
    (a configuration or key that cannot be read).
    """
    if ssh_config is not None and not ssh_config.is_file():
        raise BadInput(explain(f"{ssh_config} is not there", "a file for ssh -F", "no file", "check --ssh-config"))
    inner = await _connect(where, ssh_config, timeout_s)
    try:
        yield Connection(inner, where)
    finally:
        inner.close()
        try:
            await asyncio.wait_for(inner.wait_closed(), 2.0)
        except asyncio.TimeoutError:  # the other end is gone and cannot say goodbye
            inner.abort()


async def _connect(where: Destination, ssh_config: Path | None, timeout_s: float) -> asyncssh.SSHClientConnection:
    """First what needs no question: agent and open keys; then, on a terminal, passphrases and the password."""
    try:
        arguments = _arguments(where, ssh_config, timeout_s)
        try:
            return await _attempt(where, arguments, ask=False)
        except asyncssh.PermissionDenied:
            if not on_terminal():
                raise
            return await _attempt(where, arguments, ask=True)
    except (OSError, asyncssh.Error, asyncssh.ConfigParseError, asyncssh.KeyImportError) as error:
        raise connect_error(where, error, timeout_s) from error


async def _attempt(where: Destination, arguments: dict[str, Any], ask: bool) -> asyncssh.SSHClientConnection:
    known = _KnownHosts(arguments)
    client = _Client(where, known, ask)
    if ask:
        extra = {"passphrase": lambda path: ask_secret(f"passphrase of {path}: "), "ignore_encrypted": False}
    else:
        extra = {"passphrase": None, "ignore_encrypted": True}
    try:
        return await asyncssh.connect(**arguments, **extra, known_hosts=known.match, client_factory=lambda: client)
    except asyncssh.HostKeyNotVerifiable:
        if client.offered is None:
            raise
        raise host_key_error(where, client.offered) from None


def _arguments(where: Destination, ssh_config: Path | None, timeout_s: float) -> dict[str, Any]:
    files = [str(ssh_config)] if ssh_config else [p for p in _CONFIGS if Path(p).expanduser().is_file()]
    arguments: dict[str, Any] = {
        "host": where.host,
        "config": files or None,
        "connect_timeout": timeout_s,
        "login_timeout": 4 * timeout_s,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": 3,
    }
    if where.user:
        arguments["username"] = where.user
    if where.port:
        arguments["port"] = where.port
    return arguments


class _KnownHosts:
    """The known_hosts files that ssh would read for this host. 'none' in a config never means that all are trusted."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        said = asyncssh.SSHClientConnectionOptions(**arguments, client_keys=None, agent_path=None).known_hosts
        names = said if isinstance(said, list) and said else _KNOWN_HOSTS
        paths = [Path(str(name)).expanduser() for name in names]
        self.files = tuple(str(path) for path in paths if path.is_file())
        self.trusted: list[asyncssh.SSHKey] = []

    def match(self, host: str, address: str, port: int | None) -> Any:
        """What asyncssh asks: keys, authorities and revocations for this host."""
        found = asyncssh.match_known_hosts(asyncssh.read_known_hosts(list(self.files)), host, address, port)
        self.trusted = list(found[0])
        return found


class _Client(asyncssh.SSHClient):
    """Says no to every key that known_hosts does not vouch for, and remembers it; asks only on a terminal."""

    def __init__(self, where: Destination, known: _KnownHosts, ask: bool) -> None:
        self._where, self._known, self._ask = where, known, ask
        self._asked = False
        self.offered: OfferedKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        known = tuple(trusted.get_fingerprint() for trusted in self._known.trusted)
        self.offered = OfferedKey(key.get_algorithm(), key.get_fingerprint(), known, self._known.files)
        return False

    async def password_auth_requested(self) -> str | None:
        if not self._ask or self._asked:  # a wrong one is not asked for again: call again
            return None
        self._asked = True
        return await asyncio.to_thread(ask_secret, f"password of {self._where}: ")


def _text(raw: Any) -> str:
    return bytes(raw or b"").decode("utf-8", "replace")


_LOOK = "look at the robot: is it busy, is its disk full or read-only?"
