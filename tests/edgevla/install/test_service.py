"""The service of a robot without systemd, for real: a release's own environment, a virtual arm, a disarmed run."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from edgevla.errors import BadInput, DeviceFault, Refused
from edgevla.install.direct import Direct
from edgevla.install.place import PLACES, place_units
from edgevla.install.robot_config import load_robot_config, parse_robot_config
from edgevla.install.service import manager_of, require_one_manager, runtime_folder
from edgevla.install.systemd import Systemd, as_service_user, ensure_user
from edgevla.install.trial import torque_state
from edgevla.install.watch import Health, fault_of, late_of, status_of, watch
from tests.edgevla.install.robot import Robot


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    made = Robot(tmp_path_factory.mktemp("robot") / ("a-long-name-" * 8))  # longer than a socket's path may be
    yield made
    made.close()


def until(reached, patience_s=30.0):
    give_up = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < give_up, "it did not come"
        time.sleep(0.05)


def test_torque_of_a_run_that_has_just_started_waits_for_its_first_figures(tmp_path):
    config = parse_robot_config(b'service = "direct"\nport = "/dev/null"\ninstruction = "x"\n')
    direct = Direct(tmp_path)
    direct.runtime.mkdir()
    answers = [{}, {}, {"phase": "disarmed", "torque": "off"}]
    with subprocess.Popen(["sleep", "60"]) as run, socket.socket(socket.AF_UNIX) as listening:
        direct._remember(run.pid)
        listening.bind(str(direct.runtime / "run.sock"))
        listening.listen()

        def answer():
            for said in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(json.dumps(said).encode() + b"\n")

        threading.Thread(target=answer, daemon=True).start()
        try:
            assert torque_state(tmp_path, config) == ("off", "the running service reports off, phase disarmed")
        finally:
            run.kill()


def test_a_service_starts_disarmed_is_healthy_tells_its_torque_and_stops(robot):
    robot.write_config(record=f'"{robot.prefix}/flights"')
    config = load_robot_config(robot.prefix / "etc/robot.toml")
    manager = manager_of(robot.prefix, config)
    assert not manager.is_active()
    manager.stop()  # nothing runs: nothing happens
    manager.install_units(robot.prefix)
    manager.start()
    try:
        pid = (robot.prefix / "run/edgevla.pid").read_text()
        manager.start()  # it runs already
        assert (robot.prefix / "run/edgevla.pid").read_text() == pid
        health = manager.health(50, 60.0)
        assert (health.held, health.why) == (True, ""), manager.logs(20)
        assert health.ticks >= 50
        assert health.late <= 0.05 * health.ticks
        assert torque_state(robot.prefix, config) == ("off", "the running service reports off, phase disarmed")
        assert any("disarmed: waiting for the order to arm" in line for line in manager.logs(50))
        assert Direct(robot.prefix).is_active()  # told by the file: another process may ask
    finally:
        manager.stop()
    assert not manager.is_active()
    assert not (robot.prefix / "run/edgevla.pid").exists()
    assert not (robot.prefix / "run/run.sock").exists()
    assert [entry.name for entry in (robot.prefix / "flights").iterdir()] == ["flight-000001"]
    stopped = json.loads((robot.prefix / "flights/flight-000001/run.json").read_text())
    assert stopped["exit_code"] == 0  # in order, not by SIGKILL


def allowed_calls():
    """What SystemCallFilter= of the unit leaves, by systemd's own lists."""

    def group(name):
        done = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
        words = [line.strip() for line in done.stdout.splitlines()[1:] if line.startswith("    ")]
        calls = set()
        for word in words:
            calls |= group(word) if word.startswith("@") else set() if word.startswith("#") else {word}
        return calls

    return group("@system-service") - group("@privileged")


@pytest.mark.skipif(
    shutil.which("strace") is None or shutil.which("systemd-analyze") is None,
    reason="strace or systemd-analyze is not installed",
)
def test_a_run_from_start_to_stop_needs_nothing_that_the_unit_forbids(robot, tmp_path):
    """No systemd is needed to know it: the calls, address families and devices of the real service are looked at."""
    robot.write_config(record=f'"{robot.prefix}/traced"')
    trace, folder = tmp_path / "trace", robot.prefix / "run"
    folder.mkdir(exist_ok=True)
    launch = [str(robot.release / "venv/bin/python3"), "-I", "-B", "-m", "edgevla.install.launch", str(robot.prefix)]
    traced = subprocess.Popen(
        ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(trace), *launch],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(robot.prefix / "var")},
    )
    assert watch(lambda: status_of(folder), lambda: traced.poll() is None, 20, 120.0, best_effort=True).ticks >= 20
    (child, *_) = Path(f"/proc/{traced.pid}/task/{traced.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    assert traced.wait(60) == 0
    text = trace.read_text()
    if "ptrace" in text.splitlines()[0]:
        pytest.skip("strace may not trace here")
    calls = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert len(calls) > 50
    assert calls - allowed_calls() == set()
    assert set(re.findall(r"socket\((AF_\w+)", text)) == {"AF_UNIX"}
    devices = set(re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"(/dev/[^"]+)"', text))
    assert devices - {"/dev/null", "/dev/urandom", "/dev/cpu_dma_latency", os.path.realpath(robot.port)} <= {robot.port}
    homes = set(re.findall(r'"(/root/[^"]*|/home/[^"]*)", O_(?:RDWR|WRONLY)', text))
    assert homes == set()  # ProtectHome


def test_a_killed_service_is_not_healthy(robot):
    robot.write_config()
    manager = Direct(robot.prefix)
    manager.start()
    try:
        pid = int((robot.prefix / "run/edgevla.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        until(lambda: not manager.is_active())
        assert manager.health(10, 5.0) == Health(0, 0, False, "the service ended")
    finally:
        manager.stop()


def test_a_service_that_cannot_start_says_why_with_the_lines_of_its_log(robot):
    (robot.prefix / "log").mkdir(exist_ok=True)
    (robot.prefix / "log" / "run.log").write_text("error: of a start before\n")
    robot.write_config(port="/dev/no-such-port")
    with pytest.raises(DeviceFault, match=r"(?s)did not start.*/dev/no-such-port") as told:
        Direct(robot.prefix).start()
    assert "of a start before" not in str(told.value)
    assert not Direct(robot.prefix).is_active()


def test_no_release_and_no_process_behind_a_number_of_another(tmp_path):
    manager = Direct(tmp_path)
    with pytest.raises(BadInput, match="no release is installed"):
        manager.start()
    (tmp_path / "run/edgevla.pid").write_text(f"{os.getpid()} 1\n")  # the number is ours, the beginning is not
    assert not manager.is_active()
    manager.stop()
    assert manager.logs(5) == []


def status(**changes):
    """What a healthy disarmed run says, with changes."""
    steps, late = changes.pop("steps", 100), changes.pop("late", 0)
    base = {"phase": "disarmed", "tally": {"steps": steps, "late_wakes": late}, "not_granted": [], "restarts": 0}
    camera = {"name": "front", "age_s": 0.02, "max_age_s": 0.1}
    return {**base, "recorder": "recording", "device_faults": 0, "cameras": [camera], **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase": "track"}, "it is not disarmed: track"),
        ({"steps": 10}, "it started anew meanwhile"),
        ({"not_granted": ["mlockall"]}, "real time was not granted: mlockall"),
        ({"restarts": 1}, "policy process ended"),
        ({"recorder": "failed: disk full"}, "flight recorder failed: disk full"),
        ({"device_faults": 4}, "faults 0x0004"),
        ({"cameras": [{"name": "front", "age_s": None, "max_age_s": 0.1}]}, "no fresh picture of camera front"),
        ({"cameras": [{"name": "front", "age_s": 0.3, "max_age_s": 0.1}]}, "no fresh picture of camera front"),
    ],
)
def test_what_makes_a_service_unhealthy(changes, said):
    assert fault_of(status(), status(), best_effort=False) == ""
    assert said in fault_of(status(steps=50), status(**changes), best_effort=False)


def test_best_effort_is_accepted_where_robot_toml_says_so():
    assert fault_of(status(), status(not_granted=["mlockall"]), best_effort=True) == ""


def test_a_camera_that_may_be_absent_is_no_fault():
    absent = {"name": "front", "age_s": None, "max_age_s": 0.1, "may_be_absent": True}
    assert fault_of(status(), status(cameras=[absent]), best_effort=False) == ""


def test_late_steps_are_judged_as_arming_judges_them():
    assert late_of(status(), status(steps=200, late=5)) == ""
    assert late_of(status(), status(steps=200, late=6)).startswith("6 of 100 steps woke more than half a period late")


def test_too_few_ticks_in_time_is_no_health():
    looks = iter(status(steps=100 + step) for step in range(1000))
    health = watch(lambda: next(looks), lambda: True, 500, 0.25)
    assert not health.held
    assert "of 500 ticks within 0.25 s" in health.why


def test_units_are_placed_once_replaced_when_they_change_and_removed_when_they_go(tmp_path):
    folder, root = tmp_path / "units", tmp_path / "root"
    folder.mkdir()
    (folder / "edgevla.service").write_text("[Unit]\n")
    (folder / "edgevla-can.service").write_text("[Unit]\n")
    assert place_units(folder, root)
    assert not place_units(folder, root)
    place = root / PLACES["edgevla.service"]
    assert place.read_text() == "[Unit]\n"
    assert place.stat().st_mode & 0o777 == 0o644
    (folder / "edgevla.service").write_text("[Unit]\n#\n")
    (folder / "edgevla-can.service").unlink()
    assert place_units(folder, root)
    assert place.read_text() == "[Unit]\n#\n"
    assert sorted(path.name for path in place.parent.iterdir()) == ["edgevla.service"]


@pytest.mark.parametrize("name", ["sshd.service", "edgevla.service.d"])
def test_a_release_can_place_nothing_else(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match="holds what has no place"):
        place_units(tmp_path, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_the_manager_is_the_one_that_robot_toml_names():
    text = 'service = "systemd"\nport = "can0"\ninstruction = "x"\n'
    config = parse_robot_config(text.encode())
    assert isinstance(manager_of(Path("/opt/edgevla"), config), Systemd)
    assert runtime_folder(Path("/opt/edgevla"), config) == Path("/run/edgevla")


def test_settings_that_change_the_manager_are_refused_while_the_other_one_runs_the_service(robot, tmp_path):
    direct = robot.write_config()
    other = parse_robot_config(b'service = "systemd"\nport = "can0"\ninstruction = "x"\n')
    require_one_manager(robot.prefix, other)  # nothing runs
    running = manager_of(robot.prefix, load_robot_config(direct))
    running.start()
    try:
        require_one_manager(robot.prefix, load_robot_config(direct))
        with pytest.raises(Refused, match="a run without systemd is going") as told:
            require_one_manager(robot.prefix, other)
        assert f"kill {running.pid()}" in str(told.value)
        assert running.is_active()
    finally:
        running.stop()
    require_one_manager(robot.prefix, other)


@pytest.mark.parametrize(("active", "enabled", "refused"), [(1, 0, True), (0, 1, True), (0, 0, False)])
def test_a_service_of_systemd_is_ended_by_a_person_before_direct_takes_over(
    tmp_path, monkeypatch, active, enabled, refused
):
    tool, root, prefix = tmp_path / "tools" / "systemctl", tmp_path / "root", tmp_path / "p"
    tool.parent.mkdir()
    words = {"is-active": "active" if active else "inactive", "is-enabled": "enabled" if enabled else "disabled"}
    cases = " ".join(f"{word}) echo {said};;" for word, said in words.items())
    tool.write_text(f'#!/bin/sh\ncase "$1" in {cases} esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    config = parse_robot_config(b'service = "direct"\nport = "can0"\ninstruction = "x"\n')
    unit = root / PLACES["edgevla.service"]
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\nConditionPathExists=/opt/another/current\n")
    require_one_manager(prefix, config, root)  # of another prefix
    unit.write_text(f"[Unit]\nConditionPathExists={prefix}/current\n")
    if not refused:
        require_one_manager(prefix, config, root)
        return
    with pytest.raises(Refused, match="systemctl disable --now edgevla edgevla-boot"):
        require_one_manager(prefix, config, root)


def test_a_user_that_is_there_is_not_made_again_and_one_that_cannot_be_is_said(tmp_path):
    ensure_user(tmp_path, "root")
    with pytest.raises(DeviceFault, match="the user no-such-user cannot be made"):
        ensure_user(tmp_path, "no-such-user")  # no snippet there


def test_trials_of_a_systemd_robot_run_as_the_service_does():
    words = as_service_user(["/r/venv/bin/python3", "-I"], Path("/r"))
    assert words[0] == "systemd-run"
    assert words[-3:] == ["--", "/r/venv/bin/python3", "-I"]
    assert "--property=User=edgevla" in words
    assert "--property=LimitRTPRIO=95" in words
