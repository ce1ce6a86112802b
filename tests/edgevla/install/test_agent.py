"""The agent as a process: every request, what it refuses, two clients at once, a client that leaves."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevla.install.frames import encode_frame, read_frame, write_frame
from edgevla.install.layout import Layout, linked_id
from edgevla.install.lock import is_locked
from edgevla.trust import archive
from edgevla.trust.store import pinned
from tests.edgevla.install.agent import AGENT, Client, Refusal, stop_service, working_release
from tests.edgevla.install.kit import Made, Recorder, make_release, new_key, new_robot, tools_with
from tests.edgevla.install.test_install import install, installed

ROBOT_TOML = 'service = "direct"\nport = "/dev/null"\ninstruction = "open the drawer"\nbest_effort = true\n'


@pytest.fixture
def robot(folder: Path) -> Layout:
    layout = new_robot(folder / "edgevla")
    layout.robot.write_text(ROBOT_TOML)
    return layout


def test_what_runs_before_a_release_is_trusted_needs_the_standard_library_only() -> None:
    code = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(Path(AGENT).parents[2])!r})
import edgevla.install.agent
ours = ("edgevla", "profiles", "firmware_bridge")
allowed = sys.stdlib_module_names | set(ours) | {{"tomli"}}
print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in allowed))
print(sorted({{".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("edgevla.")}}))
"""
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, env=environment)
    strange, ours = done.stdout.splitlines()
    assert strange == "[]"
    assert "edgevla.bundle" not in ours
    assert "edgevla.cli" not in ours


def test_hello_says_who_this_is_and_changes_nothing(robot: Layout) -> None:
    made, _ = installed(robot, 4)
    before = sorted(robot.prefix.rglob("*"))
    with Client(robot) as client:
        said = client.ask("hello")
    assert (said["current"], said["good"], said["trial"], said["counter_floor"]) == (made.id, [made.id], None, 4)
    assert said["keys"] == {new_key().public.id: new_key().public.fingerprint}
    assert (said["locked"], said["revoked"], said["prefix"]) == (False, [], str(robot.prefix))
    assert said["releases"][0]["name"] == "tiny"
    assert said["robot"]["port"] == "/dev/null"
    assert said["free_bytes"] > 0
    assert sorted(robot.prefix.rglob("*")) == before


def test_a_bare_prefix_says_so_and_takes_its_first_keys_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "deep" / "edgevla")
    with Client(layout) as client:
        said = client.ask("hello")
        assert (said["keys"], said["current"], said["robot"]) == ({}, None, {})
        assert not layout.prefix.exists()
        with pytest.raises(Refusal, match="this robot trusts no key yet"):
            client.offer(make_release(1))
        trust = pinned([new_key().public]).to_bytes().decode()
        assert client.ask("provision", trust_json=trust)["keys"] == {new_key().public.id: new_key().public.fingerprint}
        with pytest.raises(Refusal, match="this robot trusts keys already"):
            client.ask("provision", trust_json=pinned([new_key(2).public]).to_bytes().decode())
        assert client.ask("configure", robot_toml=ROBOT_TOML)["robot"]["service"] == "direct"
        with pytest.raises(Refusal, match="service"):
            client.ask("configure", robot_toml='service = "cron"\n')
    assert layout.robot.read_text() == ROBOT_TOML
    assert oct(layout.robot.stat().st_mode & 0o777) == "0o644"


def test_preflight_has_facts_findings_and_torque(robot: Layout) -> None:
    import profiles

    folder = Path(profiles.__file__).parent
    with Client(robot) as client:
        host = (folder / "targets" / "host.toml").read_text()
        said = client.ask("preflight", target_toml=host, arm_toml="", port="")
        with pytest.raises(Refusal, match=r"target\.toml") as error:
            client.ask("preflight", target_toml="arch = 1\n", arm_toml="", port="")
    assert error.value.exit_code == 4
    assert said["facts"]["arch"] == os.uname().machine
    assert said["facts"]["kernel"] == os.uname().release
    assert said["torque"] in ("off", "on", "unknown")
    assert {"kernel", "cpu", "system"} <= {finding["subject"] for finding in said["findings"]}


def test_a_release_travels_and_waits_complete(robot: Layout) -> None:
    made = make_release(1, extra={"model/big.onnx": bytes(range(256)) * 800})
    with Client(robot) as client:
        assert client.offer(made)["state"] == "missing"
        assert client.send(made) > 0
    with Client(robot) as client:  # everything is there
        assert client.send(made) == 0


def test_a_delta_is_a_fraction(robot: Layout) -> None:
    import random

    big = random.Random(1).randbytes(400_000)
    install(robot, make_release(1, extra={"model/big.onnx": big}), tools_with(Recorder(robot)))
    with Client(robot) as client:
        sent = client.send(make_release(2, extra={"model/big.onnx": big[:200_000] + b"!" + big[200_001:]}))
    assert 0 < sent < 100_000


def test_an_installed_release_is_not_asked_for_again(robot: Layout) -> None:
    made, _ = installed(robot, 1)
    robot.chunk_index(made.id).unlink()  # as after an install from an archive
    with Client(robot) as client:
        assert client.offer(made) == {"id": made.id, "state": "installed", "missing": []}
        assert client.ask("assemble", release=made.id) == {"files": 0, "bytes": 0}
    assert robot.chunk_index(made.id).read_bytes() == made.index


def test_a_damaged_release_that_does_not_run_comes_again(robot: Layout) -> None:
    first, _ = installed(robot, 1)
    second, _ = installed(robot, 2)
    for made in (first, second):
        (robot.release(made.id) / "bundle" / "model" / "head.onnx").write_bytes(b"rot")
    with Client(robot) as client:
        assert client.offer(first)["state"] == "missing"
        with pytest.raises(Refusal, match="the release that runs is damaged"):
            client.offer(second)
    assert robot.releases_there() == [second.id]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": new_key(7)}, "signature is wrong"),
        ({"arch": "vax"}, "built for another machine"),
        ({"envelope": 2}, "written by a newer edgevla"),
        ({"counter": 2}, "older than one"),
    ],
)
def test_an_offer_is_judged_before_anything_is_taken(robot: Layout, change: dict[str, object], said: str) -> None:
    installed(robot, 3)
    release = {"counter": 4, **change}
    made = make_release(**release)  # type: ignore[arg-type]
    with Client(robot) as client, pytest.raises(Refusal, match=said):
        client.offer(made)
    assert not robot.staged(made.id).exists()


def test_an_unsigned_offer_is_refused(robot: Layout) -> None:
    made = make_release(1)
    sizes = {"manifest_bytes": len(made.manifest), "signature_bytes": 0, "index_bytes": len(made.index)}
    with Client(robot) as client, pytest.raises(Refusal, match="the bundle is not signed") as error:
        client.ask("offer", made.manifest + made.index, **sizes)
    assert error.value.exit_code == 4


@pytest.mark.parametrize(
    ("do", "fields", "said", "code"),
    [
        ("format", {}, "the robot's agent does not know that", 2),
        ("", {}, "does not know that", 2),
        ("offer", {"manifest_bytes": 5, "signature_bytes": 0, "index_bytes": 0}, "manifest_bytes", 4),
        ("offer", {"manifest_bytes": 0, "signature_bytes": 0, "index_bytes": 0}, "not signed", 4),
        ("chunks", {"lengths": []}, "no release is on its way", 2),
        ("chunks", {"lengths": "x"}, "no release is on its way", 2),
        ("assemble", {"release": "../../etc"}, "no id of a release", 4),
        ("install", {"release": None}, "no id of a release", 4),
        ("install", {"release": "0" * 32, "options": []}, "options as a table", 4),
        ("install", {"release": "0" * 32, "options": {"health_ticks": -1}}, "`health_ticks` is wrong", 4),
        ("rollback", {"release": "x"}, "no id of a release", 4),
        ("gc", {"keep": 0}, "`keep` is wrong", 4),
        ("logs", {"lines": 10**9}, "`lines` is wrong", 4),
        ("configure", {"robot_toml": 5}, "`robot_toml` is wrong", 4),
        ("provision", {"trust_json": "{}"}, "`schema` is wrong", 4),
        ("preflight", {}, "`target_toml` is wrong", 4),
    ],
)
def test_a_wrong_request_is_one_answer_and_the_next_is_heard(
    robot: Layout, do: str, fields: dict[str, object], said: str, code: int
) -> None:
    with Client(robot) as client:
        with pytest.raises(Refusal, match=said) as error:
            client.ask(do, **fields)
        assert error.value.exit_code == code
        assert client.ask("releases") == {"releases": []}


def test_chunks_have_sizes(robot: Layout) -> None:
    with Client(robot) as client:
        client.offer(make_release(1))
        for lengths in (None, [0], [-1], [True], [1.5], ["1"]):
            with pytest.raises(Refusal, match="`lengths` is wrong"):
                client.ask("chunks", b"x", lengths=lengths)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        struct.pack(">I", 2**31),
        struct.pack(">I", 5) + b"[1,2]",
        struct.pack(">I", 3) + b"{{{",
        encode_frame({"id": 1, "do": "hello"})[:-1] + b', "payload_bytes": -1}',
        struct.pack(">I", 44) + b'{"id":1,"do":"hello","payload_bytes":1}     ' + b"x",
        encode_frame({"id": 1, "do": "chunks"}, bytes(1000))[:-10],
    ],
)
def test_what_is_no_frame_ends_the_session_with_one_sentence(robot: Layout, raw: bytes) -> None:
    command = [sys.executable, "-I", AGENT, "--prefix", str(robot.prefix), "rpc"]
    done = subprocess.run(command, input=raw, capture_output=True, timeout=60)
    assert done.returncode == 4
    assert done.stdout == b""
    assert done.stderr.startswith(b"error: a message between deploy and the robot's agent is wrong\n")
    assert b"Traceback" not in done.stderr


def test_a_second_deploy_is_told_who_is_at_work(robot: Layout) -> None:
    with Client(robot, {"SUDO_USER": "ada", "SSH_CLIENT": "192.0.2.7 5 22"}) as first, Client(robot) as second:
        first.offer(make_release(1))
        with pytest.raises(Refusal, match=rf"ada from 192\.0\.2\.7 \(pid {first.process.pid}\), for \d+ s") as error:
            second.offer(make_release(2))
        assert error.value.exit_code == 1
        assert second.ask("hello")["locked"] is True
        assert second.ask("status")["holder"]["who"] == "ada from 192.0.2.7"
        assert first.ask("hello")["locked"] is False
    assert not is_locked(robot)


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def until_unlocked(layout: Layout) -> None:
    for _ in range(1200):
        if not is_locked(layout):
            return
        time.sleep(0.05)
    raise AssertionError("an installer is still at work after a minute")


@pytest.fixture
def running(robot: Layout) -> Iterator[tuple[Layout, Made]]:
    """A robot whose service runs a release that the agent installed."""
    made = working_release(1)
    try:
        with Client(robot) as client:
            client.send(made)
            outcome = client.ask("install", release=made.id, options={"health_ticks": 10})
            assert outcome == {"id": made.id, "good": True, "why": "", "exit_code": 0, "warnings": []}
            assert [event["name"] for event in client.events if event.get("done")][-1] == "good"
        yield robot, made
    finally:
        stop_service(robot)


def test_an_upgrade_a_failed_one_and_a_rollback(running: tuple[Layout, Made]) -> None:
    robot, first = running
    second, bad, sick = working_release(2), working_release(3, golden="differs"), working_release(4, start="fails")
    with Client(robot) as client:
        assert client.ask("install", release=first.id)["why"] == "already installed"
        client.send(second)
        assert client.ask("install", release=second.id, options={"health_ticks": 10})["good"] is True
        for made, why in ((bad, "golden vectors failed"), (sick, "the port /dev/ttyTINY is dead")):
            client.send(made)
            outcome = client.ask("install", release=made.id, options={"health_ticks": 10})
            assert (outcome["good"], outcome["warnings"]) == (False, [])
            assert why in outcome["why"]
            status = client.ask("status")
            assert (status["current"], status["active"], status["trial"]) == (second.id, True, None)
            assert status["outcome"] == outcome
        back = client.ask("rollback", options={"health_ticks": 10})
        assert (back["good"], back["id"]) == (True, first.id)
        assert client.ask("status")["active"] is True
        assert sorted(client.ask("gc", keep=1)["removed"]) == sorted([bad.id, sick.id])
        assert [line["deploy"] for line in client.ask("logs", lines=5)["deploy"]]


def test_an_install_goes_on_when_its_client_is_gone(running: tuple[Layout, Made], tmp_path: Path) -> None:
    robot, _ = running
    made, third = working_release(2, golden_waits_for=str(tmp_path / "gate")), working_release(3)
    client = Client(robot)
    client.send(made)
    write_frame(client.stdin, {"id": 99, "do": "install", "release": made.id, "options": {"health_ticks": 10}})
    frame = read_frame(client.stdout)
    assert frame is not None
    assert frame.header["event"]["name"] == "verify"
    client.process.kill()
    client.process.wait()
    client.stdin.close()
    client.stdout.close()
    with Client(robot) as other:
        assert other.ask("hello")["locked"] is True
        with pytest.raises(Refusal, match="another deploy is at work"):
            other.offer(third)
        (tmp_path / "gate").touch()
        until_unlocked(robot)
        status = other.ask("status")
    assert status["outcome"]["good"] is True
    assert (status["current"], status["active"]) == (made.id, True)


def test_what_ran_before_runs_again_when_the_installer_is_killed(running: tuple[Layout, Made]) -> None:
    robot, first = running
    made = working_release(2, golden_waits_for="/nowhere")
    with Client(robot) as client:
        client.send(made)
        write_frame(client.stdin, {"id": 99, "do": "install", "release": made.id})
        while (frame := read_frame(client.stdout)) is not None and "event" in frame.header:
            if frame.header["event"]["name"] == "golden":
                (job,) = children(client.process.pid)
                os.killpg(job, signal.SIGKILL)
        assert frame is not None
        error = frame.header["error"]
        assert error["exit_code"] == 5
        assert "the installer was killed" in error["text"]
        assert f"{first.id} runs" in error["text"]
        status = client.ask("status")
        assert (status["current"], status["active"], status["trial"]) == (first.id, True, None)
        assert "the installer was killed" in status["outcome"]["why"]


def test_an_installer_killed_before_the_stop_leaves_the_service_alone(running: tuple[Layout, Made]) -> None:
    robot, first = running
    process = (robot.prefix / "run" / "edgevla.pid").read_text()
    with Client(robot) as client:
        client.send(working_release(2))
        made = working_release(2)
        write_frame(client.stdin, {"id": 99, "do": "install", "release": made.id})
        while (frame := read_frame(client.stdout)) is not None and "event" in frame.header:
            if frame.header["event"]["name"] == "verify" and not frame.header["event"].get("done"):
                for job in children(client.process.pid):
                    os.killpg(job, signal.SIGKILL)
        assert frame is not None
        assert "the installer was killed" in frame.header["error"]["text"]
        assert f"{first.id} runs" in frame.header["error"]["text"]
    assert (robot.prefix / "run" / "edgevla.pid").read_text() == process


def test_a_polite_end_of_the_installer_is_a_return(running: tuple[Layout, Made]) -> None:
    robot, first = running
    made = working_release(2, golden_waits_for="/nowhere")
    with Client(robot) as client:
        client.send(made)
        write_frame(client.stdin, {"id": 99, "do": "install", "release": made.id})
        while (frame := read_frame(client.stdout)) is not None and "event" in frame.header:
            if frame.header["event"]["name"] == "golden" and not frame.header["event"].get("failed"):
                (job,) = children(client.process.pid)
                os.kill(job, signal.SIGTERM)
        assert frame is not None
        assert "the installer was told to end" in frame.header["result"]["why"]
        assert client.ask("status")["active"] is True
    assert linked_id(robot.current) == first.id


def test_archives_and_folders_are_verified_before_anything_of_them_is_used(robot: Layout, tmp_path: Path) -> None:
    made = working_release(1)
    unpacked = made.write(tmp_path / "tiny.bundle")
    archive.pack(unpacked, tmp_path / "tiny.tar.zst")
    (tmp_path / "strange.tar.zst").write_bytes(b"no archive")
    wrong = make_release(1, key=new_key(5)).write(tmp_path / "wrong.bundle")
    cases = [
        (tmp_path / "absent.tar.zst", "is not there"),
        (tmp_path / "strange.tar.zst", "strange.tar.zst"),
        (wrong, "signature is wrong"),
    ]
    for source, said in cases:
        done = by_hand(robot, "install-archive", str(source))
        assert (done.returncode, said in done.stderr) == (4, True), done.stderr
        assert [entry.name for entry in robot.staging.iterdir() if entry != robot.waste] == []
    first = by_hand(robot, "install-archive", str(tmp_path / "tiny.tar.zst"), "--health-ticks", "10")
    try:
        assert first.returncode == 0, first.stderr
        assert json.loads(first.stdout)["good"] is True
        assert "11/11 good: marked good" in first.stderr
        again = by_hand(robot, "install-archive", str(unpacked))
        assert json.loads(again.stdout)["why"] == "already installed"
    finally:
        stop_service(robot)
    assert (robot.releases_there(), linked_id(robot.current)) == ([made.id], made.id)


def test_a_damaged_release_comes_again_from_an_archive(robot: Layout, tmp_path: Path) -> None:
    made, newer = working_release(1), working_release(2)
    source = made.write(tmp_path / "tiny.bundle")
    manager = Recorder(robot)
    for one in (made, newer):
        assert install(robot, one, tools_with(manager))[0].good
    (robot.release(made.id) / "bundle" / "behaviour.json").write_bytes(b"rot")
    done = by_hand(robot, "install-archive", str(source), "--health-ticks", "10")
    stop_service(robot)
    assert done.returncode == 0, done.stderr
    assert linked_id(robot.current) == made.id


def test_status_and_releases_by_hand(robot: Layout) -> None:
    made, _ = installed(robot, 1)
    assert json.loads(by_hand(robot, "status").stdout)["current"] == made.id
    assert json.loads(by_hand(robot, "releases").stdout)["releases"][0]["id"] == made.id
    assert json.loads(by_hand(robot, "gc", "--keep", "1").stdout) == {"removed": []}
    assert by_hand(robot, "gc", "--keep", "0").returncode == 4
    assert by_hand(robot, "fly").returncode == 2
    back = by_hand(robot, "rollback")
    assert (back.returncode, "no release to go back to" in back.stderr) == (1, True)


def by_hand(layout: Layout, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", AGENT, "--prefix", str(layout.prefix), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)
