"""Commands on a stand-in by the system's own ssh, over one connection that stays open."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.stand_in.robot_files import KEYS, USER
from tests.stand_in.steps import Broken

_RETRY_S = 0.5


@dataclass(frozen=True)
class Result:
    """What a command there came to."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        return (self.out + self.err).strip()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Remote:
    """ssh to 127.0.0.1:`port`. `config` is an ssh_config with the hosts `robot` (the user with sudo) and `root`."""

    def __init__(self, root: Path, folder: Path, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self.config = folder, port, folder / "ssh_config"
        key, known = folder / "client", folder / "known_hosts"
        for name in ("client", "client.pub"):
            shutil.copy(root / KEYS / name, folder / name)
        key.chmod(0o600)
        host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        known.write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
        common = (
            f"  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
            "  ServerAliveInterval 10\n  ServerAliveCountMax 6\n  LogLevel ERROR\n"
        )
        self.config.write_text(f"Host root\n  User root\n{common}Host robot\n  User {USER}\n{common}")
        # Not beside the configuration: the path of a socket has at most 107 bytes.
        self._control = Path("/tmp") / f"edgevla-{os.getpid()}-{port}"

    def command(self, words: str, user: str = "root") -> list[str]:
        share = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self._control}-%r", "-o", "ControlPersist=60"]
        return ["ssh", "-F", str(self.config), *share, user, "--", words]

    def run(
        self, words: str, *, timeout_s: float = 120, user: str = "root", stdin: bytes = b"", check: bool = True
    ) -> Result:
        """Run a shell line there. Raises Broken: `check` and it failed, or no end within `timeout_s`."""
        began_s = time.monotonic()
        try:
            done = subprocess.run(
                self.command(words, user), input=stdin, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise Broken(f"`{words}` did not end within {timeout_s:g} s") from None
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        result = Result(done.returncode, out, err, time.monotonic() - began_s)
        if check and result.code:
            raise Broken(f"`{words}` ended with {result.code}: {result.said[-1500:]}")
        return result

    def put(self, data: bytes, path: str, mode: str = "644") -> None:
        """Write a file there, as root."""
        self.run(f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}", stdin=data)

    def wait(self, alive: Callable[[], bool], limit_s: float) -> None:
        """Until sshd answers. Raises Broken: never within `limit_s`, or `alive` says that nothing will."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < limit_s:
            if not alive():
                raise Broken("the stand-in ended before sshd answered; see its console")
            try:
                if self.run("true", timeout_s=30, check=False).code == 0:
                    return
            except Broken:
                self.close()
            time.sleep(_RETRY_S)
        raise Broken(f"sshd did not answer within {limit_s:g} s")

    def last_words(self) -> str:
        """The end of its journal, where it still answers."""
        try:
            return self.run("journalctl -q -b --no-pager -n 120", timeout_s=30, check=False).said
        except Broken as silent:
            return str(silent)

    def close(self) -> None:
        """End the connections that stayed open."""
        for user in ("root", "robot"):
            words = ["ssh", "-F", str(self.config), "-o", f"ControlPath={self._control}-%r", "-O", "exit", user]
            subprocess.run(words, capture_output=True, check=False)
