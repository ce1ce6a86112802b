"""A real sshd on 127.0.0.1 with keys, configuration and known_hosts of its own; runs as whoever runs the tests.

with Sshd.start(folder) as sshd: ... `ssh -F sshd.ssh_config robot`
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

SSHD = shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.path.exists(p)), "")
WHY_NOT = "no sshd here: apt-get install openssh-server"


@dataclass
class Sshd:
    """The daemon and what a client needs to reach it as the host `robot`."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    user: str

    @property
    def ssh_config(self) -> Path:
        """For `ssh -F`, asyncssh, and --ssh-config."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """Vouches for this daemon's key."""
        return self.folder / "known_hosts"

    def write_client_config(self, port: int | None = None, **more: str) -> None:
        """ssh_config of the host `robot`; `port` for a relay in between."""
        options = {
            "HostName": "127.0.0.1",
            "Port": str(port or self.port),
            "HostKeyAlias": "robot-of-the-tests",
            "User": self.user,
            "IdentityFile": str(self.folder / "user_key"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            **more,
        }
        self.ssh_config.write_text("Host robot\n" + "".join(f"  {key} {value}\n" for key, value in options.items()))

    def sessions(self) -> list[int]:
        """Processes of the daemon's open connections."""
        parent = self.process.pid
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
        )
        return [int(word) for word in listed.stdout.split()]

    def kill_sessions(self) -> None:
        """End every open connection, as a robot whose network goes away; programs they started go on or not."""
        for pid in self.sessions():
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the daemon; open connections stay."""
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def loopback_sshd(folder: Path) -> Iterator[Sshd]:
    """Start it, and wait until it listens."""
    folder.mkdir(parents=True, exist_ok=True)
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    for key, name in ((host_key, "host_key"), (user_key, "user_key")):
        (folder / name).touch(0o600)
        key.write_private_key(folder / name)
    (folder / "authorized_keys").write_bytes(user_key.export_public_key())
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd as root insists on it
    port = _free_port()
    (folder / "sshd_config").write_text(_config(folder, port))
    log = (folder / "sshd.log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdout=log, stderr=log)
    sshd = Sshd(folder, port, process, getpass.getuser())
    sshd.known_hosts.write_text(f"robot-of-the-tests {host_key.export_public_key().decode()}")
    sshd.write_client_config()
    try:
        _wait(sshd)
        yield sshd
    finally:
        sshd.kill_sessions()
        sshd.stop()
        log.close()


def _config(folder: Path, port: int) -> str:
    options = {
        "ListenAddress": "127.0.0.1",
        "Port": port,
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "yes",
        "MaxStartups": "100",
        "PrintMotd": "no",
    }
    return "".join(f"{key} {value}\n" for key, value in options.items())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(sshd: Sshd) -> None:
    for _ in range(200):
        if sshd.process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", sshd.port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"sshd did not start: {(sshd.folder / 'sshd.log').read_text()}")
