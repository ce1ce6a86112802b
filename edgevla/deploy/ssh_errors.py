"""What can go wrong before the first byte of ours is exchanged: one clear error each."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

import asyncssh

from edgevla.deploy.destination import Destination
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, explain

_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL)


@dataclass(frozen=True)
class OfferedKey:
    """The host key that a robot showed and which no known_hosts file vouches for."""

    algorithm: str  # 'ssh-ed25519'
    fingerprint: str  # 'SHA256:...'
    known: tuple[str, ...]  # fingerprints that known_hosts has for this host; empty: none
    files: tuple[str, ...]  # known_hosts files that were read


def host_key_error(where: Destination, offered: OfferedKey) -> EdgevlaError:
    """Unknown or changed: the robot is not talked to."""
    shown = f"{offered.algorithm} {offered.fingerprint}"
    compare = "on the robot: for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done"
    if offered.known:
        name = f"[{where.host}]:{where.port}" if where.port and where.port != 22 else where.host
        expected = f"{' or '.join(offered.known)}, as in {' or '.join(offered.files)}"
        todo = f"if the robot was set up anew, compare the fingerprint ({compare}), then: ssh-keygen -R '{name}'"
        return Refused(
            explain(f"the host key of {where} has changed; someone may be in between", expected, shown, todo)
        )
    todo = f"compare the fingerprint ({compare}), then accept it once: {where.ssh_line()} true"
    return Refused(explain(f"the host key of {where} is unknown", "one in known_hosts", shown, todo))


def connect_error(where: Destination, error: BaseException, timeout_s: float) -> EdgevlaError:
    """What `connect` raised, as one of ours."""
    if isinstance(error, EdgevlaError):
        return error
    if isinstance(error, asyncssh.PermissionDenied):
        expected = "a key that the robot accepts: of the agent, ~/.ssh, or IdentityFile in ssh's config"
        todo = f"try `{where.ssh_line()}`; with a password: ssh-copy-id, or call this on a terminal, which asks for it"
        return DeviceFault(explain(f"{where}: authentication failed", expected, error.reason, todo))
    if isinstance(error, asyncssh.HostKeyNotVerifiable):  # of a jump host: our own is told by host_key_error
        todo = f"accept the key of each host on the way once: {where.ssh_line()} true"
        return Refused(explain(f"a host key on the way to {where} is not known", "all known", error.reason, todo))
    if isinstance(error, asyncssh.KeyExchangeFailed):
        todo = f"see what `{where.ssh_line()} -v true` says; a known host that lost its old key is one cause"
        return DeviceFault(explain(f"{where}: no common way to encrypt", "a current OpenSSH", error.reason, todo))
    if isinstance(error, (asyncssh.ConfigParseError, asyncssh.KeyImportError)):
        return BadInput(explain("ssh's configuration cannot be used", "what OpenSSH accepts", error, "correct it"))
    if isinstance(error, asyncssh.Error):
        return DeviceFault(_talk(where, error))
    if isinstance(error, OSError):
        return DeviceFault(_network(where, error, timeout_s))
    return DeviceFault(_talk(where, error))


def _talk(where: Destination, error: BaseException) -> str:
    reason = getattr(error, "reason", "") or str(error) or type(error).__name__
    return explain(f"{where}: no SSH session", "an sshd that answers", reason, f"try `{where.ssh_line()}`")


def _network(where: Destination, error: OSError, timeout_s: float) -> str:
    if isinstance(error, socket.gaierror):
        todo = "check the name, or use the robot's IP address"
        return explain(f"the name {where.host} is unknown", "one that resolves", error.strerror, todo)
    if isinstance(error, ConnectionRefusedError) or error.errno == errno.ECONNREFUSED:
        todo = "start it on the robot: sudo systemctl enable --now ssh; or pass the right port: --host USER@HOST:PORT"
        return explain(f"{where} refused the connection", "an sshd on that port", "connection refused", todo)
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        todo = f"check that it is on and in the same network: ping {where.host}"
        return explain(f"{where} does not answer", f"an answer within {timeout_s:g} s", "none", todo)
    if error.errno in _NO_ROUTE:
        todo = f"check cable, network and address: ping {where.host}"
        return explain(f"there is no route to {where}", "a network in common", error.strerror, todo)
    if error.filename:
        todo = "check the path; ssh's configuration or a key file names it"
        return explain(f"cannot use {error.filename}", "a readable file", error.strerror, todo)
    return _talk(where, error)
