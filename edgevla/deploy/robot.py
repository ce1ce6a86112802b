"""A robot at the other end of a connection: its installer started, with sudo where that is needed, or brought there."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh

from edgevla.deploy.agent_client import AgentClient
from edgevla.deploy.ask import ask_secret
from edgevla.deploy.connection import Connection
from edgevla.deploy.local import LocalRelease
from edgevla.deploy.probe import AGENT, Probe, no_sudo, parse_probe, probe_script, require_python
from edgevla.errors import BadInput, DeviceFault, Refused, explain
from edgevla.trust.envelope import MANIFEST, MANIFEST_SIG, MANIFEST_SUM

PROVISION = "runtime/provision.py"
_UPLOAD_TIMEOUT_S = 600.0
_CODES = {1: Refused, 4: BadInput}


class Robot:
    """One robot whose prefix is known. Made by `look`."""

    def __init__(self, connection: Connection, prefix: str, probe: Probe) -> None:
        self.connection, self.prefix, self.probe = connection, prefix, probe
        self._password: bytes | None = None

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[AgentClient]:
        """The installer, listening. Raises DeviceFault (no rights, no installer)."""
        command = [*await self._sudo(), f"{self.prefix}/{AGENT}", "rpc"]
        process = await self.connection.start(command)
        self._say_password(process)

        async def last_words() -> str:
            return bytes(await process.stderr.read(4096)).decode("utf-8", "replace") if process.is_closing() else ""

        try:
            async with AgentClient(process.stdout, process.stdin, last_words) as client:
                yield client
        finally:
            process.close()

    async def provision(self, local: LocalRelease, key_file: Path) -> str:
        """Bring the installer and pin the key; the fingerprint was compared. Returns what the robot said.

        Sends only what `runtime/provision.py` reads: it verifies signature and wheels once more, there.
        Raises Refused, BadInput, DeviceFault with its words.
        """
        assert local.key is not None
        if not self.probe.tar:
            todo = "install tar on the robot, or provision it by hand (docs/deploy.md)"
            raise DeviceFault(explain(f"{self.connection.where} has no tar", "tar", "none", todo))
        fold = (await self.connection.run("mktemp -d")).stdout.strip()
        if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", fold):
            todo = "free space in /tmp on the robot"
            raise DeviceFault(explain("no temporary folder on the robot", "mktemp -d", repr(fold), todo))
        try:
            packed = _provision_files(local, key_file)
            await self._must(f"tar -xf - -C {fold}", packed, "the files for provisioning cannot be written")
            script = ["python3", "-I", f"{fold}/b/{PROVISION}", "--bundle", f"{fold}/b", "--key", f"{fold}/release.pub"]
            options = ["--prefix", self.prefix, "--fingerprint", local.key.fingerprint, "--no-openssl"]
            line = " ".join([*await self._sudo(), *script, *options])  # plain names only: prefix and fold were checked
            return await self._must(line, self._password_line(), "provisioning failed")
        finally:
            await self.connection.run(f"rm -rf {fold}")

    async def _must(self, line: str, stdin: bytes, what: str) -> str:
        answer = await self.connection.run(line, stdin, _UPLOAD_TIMEOUT_S)
        if answer.status != 0:
            said = answer.stderr.strip().removeprefix("error: ") or f"exit status {answer.status}"
            kind = _CODES.get(answer.status, DeviceFault)
            raise kind(explain(what, "exit status 0", said[-2000:], "do what it says, then call this again"))
        return answer.stdout

    async def _sudo(self) -> list[str]:
        """The words in front of a command that writes the prefix."""
        where, probe = self.connection.where, self.probe
        if not probe.needs_sudo or probe.sudo == "root":
            return []
        if probe.sudo == "free":
            return ["sudo", "-n"]
        if probe.sudo == "none":
            raise no_sudo(where, self.prefix, "no sudo there")
        if self._password is None:
            said = ask_secret(f"[sudo] password of {where}: ")
            if said is None:
                raise no_sudo(where, self.prefix, "sudo asks for a password, and nobody is at a terminal")
            self._password = said.encode() + b"\n"
            if (await self.connection.run("sudo -k -S -p '' true", self._password)).status != 0:
                self._password = None
                raise no_sudo(where, self.prefix, "sudo refuses")
        return ["sudo", "-k", "-S", "-p", ""]  # -k: asks always, else the password would be read by the command

    def _password_line(self) -> bytes:
        return self._password or b""

    def _say_password(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        if self._password is not None:
            process.stdin.write(self._password)


async def look(connection: Connection, prefix: str) -> Robot:
    """What is there. Raises DeviceFault: no Linux shell, no usable Python."""
    answer = await connection.run(f"sh -c {shlex.quote(probe_script(prefix))}")
    probe = parse_probe(answer.stdout)
    require_python(probe, connection.where)
    return Robot(connection, prefix, probe)


def _provision_files(local: LocalRelease, key_file: Path) -> bytes:
    """A tar of what `runtime/provision.py` needs, in memory: some megabytes of wheels."""
    if PROVISION not in local.envelope.files or not local.release.agent_wheels:
        todo = "build it with a current `edgevla bundle build`"
        raise BadInput(explain(f"{local.source.name} cannot provision a robot", PROVISION, "none in it", todo))
    names = [MANIFEST, MANIFEST_SUM, MANIFEST_SIG, PROVISION, *local.release.agent_wheels]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            _add(tar, f"b/{name}", (local.folder / name).read_bytes())
        _add(tar, "release.pub", key_file.read_bytes())
    return packed.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry: Any = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))
