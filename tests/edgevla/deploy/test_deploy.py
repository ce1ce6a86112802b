"""`edgevla deploy` through a real sshd to the real installer: what is installed, what comes back, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevla.bundle import write_bundle
from edgevla.cli.main import run_command
from edgevla.deploy.remembered import user_file
from edgevla.install.releases import list_releases
from edgevla.install.tools import tools_of
from edgevla.trust.archive import pack
from edgevla.trust.keys import generate, load_private
from edgevla.trust.store import TrustStore, pinned
from tests.acting_release import robot_toml
from tests.edgevla.deploy.conftest import MODEL, First, RobotKit
from tests.relay import relay_to
from tests.tiny_bundle import tiny_files, tiny_manifest

Capture = pytest.CaptureFixture[str]


def told(capsys: Capture) -> dict[str, object]:
    said: dict[str, object] = json.loads(capsys.readouterr().out)
    return said


def test_the_first_deploy_provisions_installs_and_marks_good(first: First, robot: RobotKit) -> None:
    report = first.report
    assert (report["state"], report["changed"]) == ("installed", True)
    assert robot.current == first.id
    assert robot.good == (first.id,)
    assert report["missing_bytes"] == report["bundle_bytes"]
    done = [step["name"] for step in report["steps"] if step.get("done")]
    names = "verify torque unpack stop engines golden self-test switch start health good"
    assert done == names.split()
    levels = {row["name"]: row["level"] for row in report["preflight"]}
    assert levels["architecture"] == levels["Python of the wheels"] == levels["free space"] == "pass"
    trust = json.loads((robot.prefix / "etc" / "trust.json").read_text())
    assert list(trust["keys"]) == [robot.desk.key.public.id]


def test_the_same_release_again_changes_nothing_and_moves_next_to_nothing(
    robot: RobotKit, first: First, capsys: Capture
) -> None:
    robot.start()
    before = robot.files()
    assert robot.deploy(first.bundle, "--json") == 0
    report = told(capsys)
    assert (report["state"], report["changed"]) == ("unchanged", False)
    assert int(str(report["moved_bytes"])) < 20_000
    assert robot.files() == before


def test_settings_that_are_new_are_a_change_and_the_same_ones_again_are_none(
    robot: RobotKit, first: First, capsys: Capture, tmp_path: Path
) -> None:
    robot.start()
    other = tmp_path / "robot.toml"
    other.write_text(robot.settings.read_text().replace("open the drawer", "close the drawer"))
    for settings, changed in ((robot.settings, False), (other, True), (other, False)):
        assert robot.deploy(first.bundle, "--robot", settings, "--no-remember", "--json") == 0
        report = told(capsys)
        assert (report["state"], report["changed"]) == ("installed" if changed else "unchanged", changed)
    assert not user_file().exists()


def test_a_release_whose_service_does_not_run_is_tested_and_started_again(
    robot: RobotKit, first: First, capsys: Capture
) -> None:
    assert robot.deploy(first.bundle, "--json") == 0
    report = told(capsys)
    assert (report["state"], report["missing_bytes"]) == ("installed", 0)
    assert robot.active()


def test_an_upgrade_moves_what_changed_and_the_older_release_stays(
    robot: RobotKit, first: First, capsys: Capture
) -> None:
    changed = MODEL[:300_000] + b"\x01 a new layer" + MODEL[300_000:]
    bundle = robot.desk.release(2, extra={"model/head.onnx": changed})
    assert robot.deploy(bundle, "--json") == 0
    report = told(capsys)
    assert report["state"] == "installed"
    assert 10 < int(str(report["missing_bytes"])) < 100_000 < int(str(report["bundle_bytes"]))
    assert robot.good == (first.id, report["id"])
    assert robot.active()
    releases = robot.prefix / "releases" / str(report["id"]) / "bundle" / "model" / "head.onnx"
    assert releases.read_bytes() == changed


@pytest.mark.parametrize(
    ("behaviour", "code", "why"),
    [
        ({"golden": "0.2"}, 1, "stage head: expected 1e-4, got 0.2"),
        ({"late": 9}, 1, "woke more than half a period late"),  # found after the switch
        ({"start": "fails"}, 5, "the port /dev/ttyTINY is dead"),
    ],
)
def test_an_upgrade_that_fails_on_the_device_returns_to_the_old_release(
    robot: RobotKit, first: First, behaviour: dict[str, object], code: int, why: str, capsys: Capture
) -> None:
    assert robot.deploy(robot.desk.release(2, behaviour)) == code
    said = capsys.readouterr().err
    assert why in said
    assert f"release {first.id} runs again" in said
    assert robot.current == first.id
    assert robot.good == (first.id,)
    assert robot.active()


def with_line(robot: RobotKit, tmp_path: Path, line: str) -> Path:
    """robot.toml of the robot with one line more."""
    path = tmp_path / "changed.toml"
    path.write_text(f"{robot.layout.robot.read_text()}{line}\n")
    return path


def test_a_camera_that_nobody_confirmed_is_said_before_the_service_is_stopped(robot: RobotKit, capsys: Capture) -> None:
    robot.start()
    runs = (robot.prefix / "run" / "edgevla.pid").read_text()
    text = "camera front is not confirmed for this bundle\n  expected: a device\n  got:      v4l2:x, never confirmed\n"
    lack = {"kind": "confirmation", "camera": "front", "text": text}
    bundle = robot.desk.release(2, {"cameras": lack})
    assert robot.deploy(bundle) == 1
    said = capsys.readouterr().err
    assert "camera front is not confirmed" in said
    assert f"XDG_STATE_HOME={robot.prefix}/var {robot.prefix}/releases/" in said
    assert (robot.prefix / "run" / "edgevla.pid").read_text() == runs


def test_settings_that_came_with_a_release_go_with_it(
    robot: RobotKit, first: First, tmp_path: Path, capsys: Capture
) -> None:
    before = robot.layout.robot.read_bytes()
    no_start = with_line(robot, tmp_path, 'record = "/proc/nowhere"')
    assert robot.deploy(robot.desk.release(2), "--robot", no_start) == 5
    assert "no flight record can be made in /proc/nowhere" in (said := capsys.readouterr().err)
    assert f"release {first.id} runs again" in said
    assert robot.active()
    assert robot.layout.robot.read_bytes() == before


@pytest.mark.parametrize("way", ["sent", "by hand"])
def test_a_change_of_the_manager_is_refused_while_the_old_one_runs_the_service(
    robot: RobotKit, tmp_path: Path, way: str, capsys: Capture
) -> None:
    robot.start()
    old = robot.layout.robot.read_text()
    other = tmp_path / "systemd.toml"
    other.write_text(old.replace('"direct"', '"systemd"').replace("best_effort = true", ""))
    manager = tools_of(robot.layout).manager
    bundle = robot.desk.release(2)
    if way == "by hand":
        robot.layout.robot.write_text(other.read_text())
    try:
        assert robot.deploy(bundle, *(["--robot", other] if way == "sent" else [])) == 1
        assert "robot.toml changes `service`, and a run without systemd is going" in capsys.readouterr().err
        assert manager.is_active()
        assert robot.layout.robot.read_text() == (old if way == "sent" else other.read_text())
    finally:
        manager.stop()


def test_settings_stand_as_they_were_where_the_preflight_fails(robot: RobotKit, tmp_path: Path) -> None:
    before = robot.layout.robot.read_bytes()
    no_port = tmp_path / "no-port.toml"
    no_port.write_text(robot_toml("/dev/nowhere"))
    assert robot.deploy(robot.desk.release(2), "--robot", no_port) == 1
    assert robot.layout.robot.read_bytes() == before


def test_new_settings_for_the_release_that_runs_are_tried_and_in_use(
    robot: RobotKit, first: First, tmp_path: Path, capsys: Capture
) -> None:
    robot.start()
    changed = with_line(robot, tmp_path, "accept_no_watchdog = true")
    assert robot.deploy(first.bundle, "--robot", changed, "--json") == 0
    assert told(capsys)["state"] == "installed"
    assert robot.layout.robot.read_bytes() == changed.read_bytes()
    assert "--accept-no-watchdog" in (robot.prefix / "log" / "run.log").read_text().splitlines()[-1]
    assert not robot.layout.robot_before.exists()
    assert robot.deploy(first.bundle, "--robot", changed, "--json") == 0
    assert told(capsys)["state"] == "unchanged"


def test_an_old_release_that_does_not_start_is_not_said_to_run(
    robot: RobotKit, tmp_path: Path, capsys: Capture
) -> None:
    robot.layout.robot.write_text(with_line(robot, tmp_path, 'record = "/proc/nowhere"').read_text())
    assert robot.deploy(robot.desk.release(2, {"selftest": "too late"})) == 1
    said = capsys.readouterr().err
    assert "runs again" not in said
    assert "its service does not run" in said


def test_a_rollback_goes_to_the_release_before_and_is_listed(robot: RobotKit, first: First, capsys: Capture) -> None:
    assert robot.deploy(robot.desk.release(2)) == 0
    assert robot.call("rollback", "--health-ticks", 20) == 0
    assert robot.current == first.id
    capsys.readouterr()
    assert robot.call("releases", "--json") == 0
    listed = told(capsys)["releases"]
    assert [(row["counter"], row["current"], row["good"]) for row in listed] == [  # type: ignore[attr-defined]
        (2, False, True),
        (1, True, True),
    ]
    assert robot.call("gc", "--keep", 1, "--json") == 0
    assert robot.call("logs", "--lines", 5) == 0
    assert robot.call("status") == 0
    assert first.id in capsys.readouterr().out


def test_a_dry_run_shows_the_preflight_table_and_changes_nothing(robot: RobotKit, capsys: Capture) -> None:
    before = robot.files()
    assert robot.deploy(robot.desk.release(2), "--dry-run") == 0
    said = capsys.readouterr().out
    assert "architecture" in said
    assert "nothing was changed" in said
    assert robot.files() == before


def test_a_release_for_another_computer_fails_the_preflight_before_a_byte_is_copied(
    robot: RobotKit, capsys: Capture
) -> None:
    before = robot.files()
    assert robot.deploy(robot.desk.release(2, arch="aarch64"), "--json") == 1
    assert "architecture" in capsys.readouterr().err
    assert robot.files() == before


def test_a_bundle_signed_by_a_key_that_is_not_pinned_is_refused_by_the_robot(
    robot: RobotKit, tmp_path: Path, capsys: Capture
) -> None:
    generate(tmp_path / "other.key", tmp_path / "other.pub")
    bundle = robot.desk.release(2, key=load_private(tmp_path / "other.key"))
    assert robot.deploy(bundle) == 4
    assert "the bundle's signature is wrong" in capsys.readouterr().err
    assert [path for path in (robot.prefix / "staging").iterdir() if path.name != ".waste"] == []


def judged_bundle(robot: RobotKit, folder: Path, case: str) -> Path:
    """A bundle that the robot refuses, as this computer cannot know without it; and the robot that does."""
    generate(folder / "other.key", folder / "other.pub")
    other = load_private(folder / "other.key")
    if case == "unknown key":
        return robot.desk.release(2, key=other)
    if case == "revoked key":
        both = TrustStore(2, pinned([robot.desk.key.public, other.public]).keys, (other.public.id,))
        robot.layout.trust.write_bytes(both.to_bytes())
        return robot.desk.release(2, key=other)
    update = pinned([robot.desk.key.public, other.public])  # serial 1, as the robot has it
    return robot.desk.release(2, extra={"trust/trust.json": update.to_bytes()})


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry-run", "deploy"])
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("unknown key", "the bundle's signature is wrong"),
        ("revoked key", "signed by a revoked key"),
        ("trust update", "the trust update is older"),
    ],
)
def test_what_the_robot_would_refuse_is_said_before_anything_travels_or_is_written(
    robot: RobotKit, tmp_path: Path, case: str, said: str, dry_run: bool, capsys: Capture
) -> None:
    bundle = judged_bundle(robot, tmp_path, case)
    other = with_line(robot, tmp_path, "accept_no_watchdog = true")
    before = robot.files()
    assert robot.deploy(bundle, "--robot", other, *(["--dry-run"] if dry_run else [])) == 4
    assert said in capsys.readouterr().err
    assert robot.files() == before


@pytest.mark.parametrize("words", [[], ["--target", "host"], ["--key"]], ids=["bare", "target", "key"])
def test_a_policy_bundle_is_no_release_whatever_else_it_lacks(
    robot: RobotKit, tmp_path: Path, words: list[str], capsys: Capture
) -> None:
    policy = write_bundle(tmp_path / "tiny.bundle", tiny_manifest(), tiny_files()).path
    more = [*words, robot.desk.public] if words == ["--key"] else words
    assert robot.deploy(policy, *more) == 4
    said = capsys.readouterr().err
    assert "is no release" in said
    assert "edgevla bundle build" in said
    assert "which target" not in said


def test_damaged_trust_on_the_robot_is_one_error_with_what_to_do(robot: RobotKit, capsys: Capture) -> None:
    robot.layout.trust.write_bytes(robot.layout.trust.read_bytes()[:40])
    assert robot.deploy(robot.desk.release(2)) == 4
    said = capsys.readouterr().err
    assert "etc/trust.json is damaged: no release can be judged" in said
    assert "provision this robot again" in said


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_of_deploy_is_that_of_all_its_commands_and_of_install_that_of_its_options(
    word: str, capsys: Capture
) -> None:
    assert run_command(["deploy", word]) == 0
    said = capsys.readouterr().out
    for words in ("install", "status", "releases", "rollback", "gc", "logs", "[BUNDLE]", "Example: edgevla deploy"):
        assert words in said
    assert run_command(["deploy", "install", word]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--offline" in said
    assert "default: 800" in said
    assert "default: 0" not in said


def test_a_rollback_with_one_release_says_that_there_is_no_other(robot: RobotKit, capsys: Capture) -> None:
    assert robot.call("rollback") == 1
    said = capsys.readouterr().err
    assert "no release to go back to" in said
    assert "the one that runs, and no other" in said


def test_an_unsigned_bundle_and_one_with_a_lower_counter_fail_a_dry_run(robot: RobotKit, capsys: Capture) -> None:
    before = robot.files()
    assert robot.deploy(robot.desk.release(2, key=None), "--dry-run") == 4
    assert "is not signed; no robot takes it" in capsys.readouterr().err
    assert robot.deploy(robot.desk.release(1, {"another": True}), "--dry-run") == 1
    assert "release counter" in capsys.readouterr().err
    assert robot.files() == before


def test_with_its_key_named_a_wrong_signature_is_found_before_anything_travels(
    robot: RobotKit, tmp_path: Path, capsys: Capture
) -> None:
    generate(tmp_path / "other.key", tmp_path / "other.pub")
    bundle = robot.desk.release(2, key=load_private(tmp_path / "other.key"))
    robot.sshd.write_client_config(UserKnownHostsFile="/dev/null")  # a connection would fail with 1
    assert robot.deploy(bundle, "--key", robot.desk.public) == 4
    assert "the bundle's signature is wrong" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda bundle: (bundle / "manifest.sig").unlink(), "is not signed"),
        (lambda bundle: (bundle / "model" / "head.onnx").write_bytes(b"\0" + MODEL[1:]), "model/head.onnx"),
        (lambda bundle: (bundle / "extra").write_bytes(b""), "an extra file"),
    ],
)
def test_a_damaged_bundle_is_refused_on_this_side(robot: RobotKit, spoil: object, why: str, capsys: Capture) -> None:
    bundle = robot.desk.release(2)
    spoil(bundle)  # type: ignore[operator]
    assert robot.deploy(bundle) == 4
    assert why in capsys.readouterr().err


def test_a_lower_counter_is_refused(robot: RobotKit, capsys: Capture) -> None:
    assert robot.deploy(robot.desk.release(1, {"another": True})) == 1
    assert "counter" in capsys.readouterr().err


def test_a_changed_host_key_ends_a_deploy_with_one_error(robot: RobotKit, first: First, capsys: Capture) -> None:
    robot.sshd.write_client_config(UserKnownHostsFile="/dev/null")
    assert robot.deploy(first.bundle) == 1
    assert "the host key of robot is unknown" in capsys.readouterr().err


def test_a_connection_cut_at_any_stage_is_one_error_and_the_next_deploy_goes_on(
    robot: RobotKit, capsys: Capture
) -> None:
    bundle = robot.desk.release(2, extra={"model/head.onnx": MODEL[::-1]})
    with relay_to(robot.sshd.port) as relay:
        robot.sshd.write_client_config(port=relay.port)
        for stage, after_bytes in enumerate((1_000, 5_000, 450_000), 1):
            relay.cut_after_bytes = after_bytes
            assert robot.deploy(bundle) == 5
            said = capsys.readouterr().err
            assert said.count("error: ") == 1, said
            assert relay.cuts == stage
        relay.cut_after_bytes = None
        assert robot.deploy(bundle, "--json") == 0
    report = told(capsys)
    assert report["state"] == "installed"
    assert int(str(report["missing_bytes"])) < len(MODEL)  # what arrived before was kept


@pytest.mark.parametrize(
    ("golden", "code", "said"),
    [("", 0, "11/11 marked good"), ("0.2", 1, "stage head: expected 1e-4, got 0.2")],
    ids=["kept", "failed"],
)
def test_an_install_goes_on_without_its_connection_and_the_next_call_watches_it_to_its_end(
    robot: RobotKit, tmp_path: Path, golden: str, code: int, said: str
) -> None:
    gate = tmp_path / "gate"
    bundle = robot.desk.release(2, {"golden": golden, "golden_waits_for": str(gate)})
    lost = start_deploy(robot, bundle)
    wait_for_step(robot, "golden")
    robot.sshd.kill_sessions()
    assert "was lost" in lost.communicate(timeout=60)[1]
    assert lost.returncode == 5
    watching = start_deploy(robot, bundle)
    heard = wait_for_line(watching, "watching it")
    gate.touch()
    heard += watching.communicate(timeout=60)[1]
    assert said in heard
    assert watching.returncode == code
    assert len(robot.good) == 2 - code
    assert robot.active()


def test_of_two_deploys_at_once_the_second_is_told_who_is_at_work(
    robot: RobotKit, tmp_path: Path, capsys: Capture
) -> None:
    gate = tmp_path / "gate"
    process = start_deploy(robot, robot.desk.release(2, {"golden_waits_for": str(gate)}))
    wait_for_step(robot, "golden")
    assert robot.deploy(robot.desk.release(3)) == 1
    assert "another deploy is at work" in capsys.readouterr().err
    gate.touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(robot.good) == 2


def test_without_a_key_a_new_robot_is_not_provisioned(bare_robot: RobotKit, first: First, capsys: Capture) -> None:
    assert bare_robot.deploy(first.bundle) == 2
    assert "--key" in capsys.readouterr().err
    assert not bare_robot.prefix.exists()


def test_with_another_fingerprint_than_the_pinned_one_nothing_is_brought_to_the_robot(
    bare_robot: RobotKit, first: First, capsys: Capture
) -> None:
    key = bare_robot.desk.public
    assert bare_robot.deploy(first.bundle, "--key", key, "--pin", "0" * 64) == 1
    assert bare_robot.deploy(first.bundle, "--key", key) == 1  # nobody at a terminal to ask
    assert bare_robot.deploy(first.bundle, "--key", key, "--dry-run") == 0
    assert "would provision it" in capsys.readouterr().out
    assert not bare_robot.prefix.exists()


def test_a_robot_without_settings_says_so_before_it_asks_about_torque(
    robot: RobotKit, first: First, capsys: Capture
) -> None:
    bundle = robot.desk.release(2)
    robot.layout.robot.unlink()
    assert robot.call(bundle) == 2
    said = capsys.readouterr().err
    assert "the robot has no settings of its own" in said
    assert "--robot robot.toml" in said
    assert "torque of the arm" not in said
    robot.layout.robot.write_text('service = "direct"\n')
    assert robot.call(bundle, "--yes") == 4
    assert "`port` is wrong" in capsys.readouterr().err
    assert robot.current == first.id


def test_a_dry_run_looks_at_the_port_of_the_settings_that_it_does_not_write(
    robot: RobotKit, tmp_path: Path, capsys: Capture
) -> None:
    before = robot.files()
    (tmp_path / "robot.toml").write_text(robot_toml("/dev/edgevla-no-such-port"))
    assert robot.call(robot.desk.release(2), "--dry-run", "--robot", tmp_path / "robot.toml", "--json") == 1
    assert "/dev/edgevla-no-such-port" in capsys.readouterr().err
    assert robot.files() == before


def test_a_self_test_that_could_not_measure_soundly_is_exit_code_3_and_the_old_release_runs(
    robot: RobotKit, first: First, capsys: Capture
) -> None:
    bundle = robot.desk.release(2, {"selftest": "12 samples, 90 needed", "selftest_exit": 3})
    assert robot.deploy(bundle) == 3
    assert "12 samples, 90 needed" in capsys.readouterr().err
    assert (robot.current, robot.active()) == (first.id, True)


def test_status_says_in_words_how_the_newest_deploy_ended(robot: RobotKit, capsys: Capture) -> None:
    assert robot.deploy(robot.desk.release(2, {"golden": "0.2"})) == 1
    assert robot.call("status") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "failed: golden vectors failed" in said
    assert '"exit_code"' not in said


def test_a_dry_run_on_a_new_robot_finds_that_the_release_is_for_another_computer(
    bare_robot: RobotKit, capsys: Capture
) -> None:
    for_another = bare_robot.desk.release(1, arch="riscv64")
    assert bare_robot.deploy(for_another, "--dry-run") == 1
    assert "riscv64 with Python" in capsys.readouterr().err
    assert not bare_robot.prefix.exists()


def test_a_deploy_that_cannot_be_remembered_is_a_deploy(
    robot: RobotKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert robot.deploy(robot.desk.release(2)) == 0
    said = capsys.readouterr()
    assert "not remembered in" in said.err
    assert "marked good" in said.out


def test_an_archive_is_installed_without_a_network(robot: RobotKit, tmp_path: Path, capfd: Capture) -> None:
    archive = tmp_path / "release.tar.zst"
    release_id = pack(robot.desk.release(2), archive).id
    words = ["deploy", "--offline", str(archive), "--prefix", str(robot.prefix), "--health-ticks", "20", "--yes"]
    done = subprocess.run(
        [sys.executable, "-m", "edgevla.cli.main", *words, "--json"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["good"] is True
    assert robot.current == release_id
    assert [row["counter"] for row in list_releases(robot.layout)] == [2, 1]


def start_deploy(robot: RobotKit, bundle: Path) -> subprocess.Popen[str]:
    """`edgevla deploy` in a process of its own."""
    command = [sys.executable, "-m", "edgevla.cli.main", "deploy", str(bundle), "--yes", "--health-ticks", "20"]
    return subprocess.Popen([*command, *robot.reach()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_line(process: subprocess.Popen[str], part: str) -> str:
    """Its stderr up to a line with that text."""
    heard = ""
    assert process.stderr is not None
    for line in process.stderr:
        heard += line
        if part in line:
            return heard
    raise AssertionError(f"never said {part!r}: {heard}")


def wait_for_step(robot: RobotKit, name: str) -> None:
    """Until the robot's log says that the step of that name began."""
    log = robot.prefix / "log" / "deploy.jsonl"
    begun = log.stat().st_size
    for _ in range(600):
        with log.open() as file:
            file.seek(begun)
            if any(json.loads(line).get("name") == name for line in file.read().splitlines()):
                return
        time.sleep(0.05)
    raise AssertionError(f"no step {name}: {log.read_text()}")
