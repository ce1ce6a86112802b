"""A real sshd on loopback: what connects, and one clear error for each thing that does not."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import asyncssh
import pytest

from edgevla.deploy.connection import connect
from edgevla.deploy.destination import Destination
from edgevla.deploy.probe import parse_probe, probe_script
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused
from tests.loopback_sshd import Sshd

ROBOT = Destination("robot")


def answer_of(sshd: Sshd, command: str, where: Destination = ROBOT, timeout_s: float = 15.0) -> str:
    async def ask() -> str:
        async with connect(where, sshd.ssh_config, timeout_s) as connection:
            return (await connection.run(command)).stdout

    return asyncio.run(ask())


def refusal(sshd: Sshd, where: Destination = ROBOT, timeout_s: float = 15.0) -> EdgevlaError:
    with pytest.raises(EdgevlaError) as caught:
        answer_of(sshd, "true", where, timeout_s)
    assert "\n  to do:    " in str(caught.value)
    return caught.value


def fingerprint(path: Path) -> str:
    return asyncssh.read_private_key(path).get_fingerprint()


def test_a_command_runs_on_the_robot(sshd: Sshd) -> None:
    assert answer_of(sshd, "echo $((6 * 7))") == "42\n"


def test_one_connection_carries_several_commands_and_a_stream(sshd: Sshd) -> None:
    async def talk() -> tuple[str, bytes, int]:
        async with connect(ROBOT, sshd.ssh_config) as connection:
            first = await connection.run("cat", stdin=b"one")
            process = await connection.start(["sh", "-c", "cat; echo 'a  b'"])
            process.stdin.write(b"two\n")
            process.stdin.write_eof()
            return first.stdout, await process.stdout.read(), len(sshd.sessions())

    assert asyncio.run(talk()) == ("one", b"two\na  b\n", 1)


def test_the_probe_tells_what_the_installer_needs(sshd: Sshd, tmp_path: Path) -> None:
    probe = parse_probe(answer_of(sshd, probe_script(str(tmp_path / "not" / "yet"))))
    assert probe.writable
    assert not probe.agent
    assert not probe.needs_sudo
    assert probe.python is not None
    assert probe.python >= (3, 10)


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_line_that_accepts_it(sshd: Sshd) -> None:
    sshd.write_client_config(UserKnownHostsFile="/dev/null")
    error = refusal(sshd)
    assert isinstance(error, Refused)
    assert fingerprint(sshd.folder / "host_key") in str(error)
    assert "the host key of robot is unknown" in str(error)
    assert "ssh robot true" in str(error)


def test_known_hosts_none_does_not_mean_that_every_key_is_trusted(sshd: Sshd) -> None:
    sshd.write_client_config(UserKnownHostsFile="none", StrictHostKeyChecking="no")
    assert "is unknown" in str(refusal(sshd))


def test_a_changed_host_key_is_refused_with_both_fingerprints(sshd: Sshd, tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "known").write_text(f"robot-of-the-tests {other.export_public_key().decode()}")
    sshd.write_client_config(UserKnownHostsFile=str(tmp_path / "known"))
    error = refusal(sshd)
    assert isinstance(error, Refused)
    assert "has changed" in str(error)
    assert fingerprint(sshd.folder / "host_key") in str(error)
    assert other.get_fingerprint() in str(error)


def test_a_key_that_the_robot_does_not_accept_is_one_error(sshd: Sshd, tmp_path: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "stranger")
    sshd.write_client_config(IdentityFile=str(tmp_path / "stranger"))
    error = refusal(sshd)
    assert isinstance(error, DeviceFault)
    assert "authentication failed" in str(error)


def test_a_port_where_nothing_listens_is_refused_connection(sshd: Sshd) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and not listening
        error = refusal(sshd, Destination("robot", None, free.getsockname()[1]))
    assert isinstance(error, DeviceFault)
    assert "refused the connection" in str(error)


def test_a_robot_that_never_speaks_is_no_answer(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = refusal(sshd, Destination("robot", None, mute.getsockname()[1]), timeout_s=0.3)
    assert isinstance(error, DeviceFault)
    assert "within" in str(error)


def test_a_name_that_does_not_resolve_is_said(sshd: Sshd) -> None:
    error = refusal(sshd, Destination("no-such-robot.invalid"))
    assert isinstance(error, DeviceFault)
    assert "the name no-such-robot.invalid is unknown" in str(error)


def test_a_missing_ssh_config_is_bad_input(sshd: Sshd, tmp_path: Path) -> None:
    async def ask() -> None:
        async with connect(ROBOT, tmp_path / "none"):
            pass

    with pytest.raises(BadInput, match="--ssh-config"):
        asyncio.run(ask())


def test_a_jump_host_of_the_config_is_used(sshd: Sshd) -> None:
    jump = sshd.ssh_config.read_text().replace("Host robot", "Host gate")
    sshd.write_client_config(ProxyJump="gate")
    sshd.ssh_config.write_text(jump + sshd.ssh_config.read_text())

    async def sessions() -> int:
        async with connect(ROBOT, sshd.ssh_config) as connection:
            await connection.run("true")
            return len(sshd.sessions())

    assert asyncio.run(sessions()) == 2


def test_a_command_that_does_not_end_is_given_up(sshd: Sshd) -> None:
    async def wait() -> None:
        async with connect(ROBOT, sshd.ssh_config) as connection:
            await connection.run("sleep 60", timeout_s=0.2)

    with pytest.raises(DeviceFault, match="did not end"):
        asyncio.run(wait())
