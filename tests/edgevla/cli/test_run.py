"""`edgevla run` as it is called: one clear error and the right exit code, or a run and its record."""

import errno
import json
import os
import pty
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgevla.cli.main import run_command
from edgevla.cli.run import _require_cameras
from edgevla.control.ladder import MOVABLE
from edgevla.control.options import RunOptions
from edgevla.control.result import RunResult
from edgevla.errors import Usage
from edgevla.flight.reader import observations_of, read_record
from edgevla.sensors.camera import CameraSlot
from tests.rich_bundle import FRONT, WRIST
from tests.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[3]
SAY = ["--instruction", "open the drawer"]
SIM = ["--sim", "drawer-open-v3"]
LOOSE = (ROOT / "tests" / "loose_target.toml").read_text()


def edgevla_run(*arguments, pass_fds=()):
    command = [sys.executable, "-m", "edgevla.cli.main", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=180, pass_fds=pass_fds)


@pytest.fixture(scope="module")
def loose_target(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "loose.toml"
    path.write_text(LOOSE)
    return path


@pytest.fixture(scope="module")
def patient_arm(tmp_path_factory):
    """The reference arm, but a stalled test machine must not look like a stalled camera or policy."""
    text = (ROOT / "profiles" / "arms" / "metaworld-sawyer.toml").read_text()
    for line, patient in (
        ("max_state_age_s = 0.050", "max_state_age_s = 10.0"),
        ("max_age_s = 0.100", "max_age_s = 10.0"),
        ("max_skew_s = 0.075", "max_skew_s = 10.0"),
        ("hold_s = 0.5", "hold_s = 30.0"),
    ):
        assert line in text
        text = text.replace(line, patient)
    path = tmp_path_factory.mktemp("arm") / "patient.toml"
    path.write_text(text)
    return path


def test_a_run_in_the_simulator_ends_with_a_reason_statistics_and_a_record(
    tiny_bundle_path, loose_target, patient_arm, tmp_path
):
    record = tmp_path / "record"
    done = edgevla_run(
        *("--bundle", tiny_bundle_path, "--target", loose_target, "--arm", patient_arm, *SIM, *SAY),
        *("--duration-s", 0.8, "--best-effort", "--json", "--record", record),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stop_reason"] == "duration reached"
    assert told["success"] is False
    assert told["device"]["mode"] == "STOPPED"
    assert told["device"]["accepted"] > 0
    assert json.loads((record / "run.json").read_text()) == told
    assert sorted(file.name for file in record.iterdir()) == ["flight.mcap", "run.json"]
    flight = read_record(record)
    assert (flight.damage, flight.lost, flight.cut) == ((), {}, False)
    assert np.isin(flight.ticks["phase"], sorted(MOVABLE)).sum() == told["loop"]["servo_steps"]
    assert len(flight.inferences) == told["inference"]["count"]
    seen = [(seen, wrong) for _, seen, wrong in observations_of(flight)]
    assert len(seen) > 0
    for observation, wrong in seen:
        assert wrong == ()
        assert observation.frames["corner"].image.shape == (96, 96, 3)


def test_a_run_over_a_given_serial_port_with_an_outside_camera(tiny_bundle_path, loose_target, patient_arm):
    camera = CameraSlot.create(96, 96)
    arm = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "edgevla.sim.virtual_arm",
            "--plant",
            "integrator",
            "--camera-fd",
            str(camera.fd),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        pass_fds=[camera.fd],
    )
    port = json.loads(arm.stdout.readline())["port"]
    done = edgevla_run(
        *("--bundle", tiny_bundle_path, "--target", loose_target, "--arm", patient_arm, *SAY),
        *("--port", port, "--camera-fd", camera.fd, "--arm-at-start", "--duration-s", 0.5, "--best-effort"),
        pass_fds=[camera.fd],
    )
    out, _ = arm.communicate()
    camera.close()
    assert done.returncode == 0, done.stderr
    assert "stopped: duration reached" in done.stdout
    assert "p99.9" in done.stdout
    assert "success" not in done.stdout  # nothing in this loop can tell
    assert json.loads(out.splitlines()[-1])["mode"] == "STOPPED"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([*SIM, "--instruction", "dance on the table"], 4, "outside the vocabulary"),
        ([*SIM, *SAY, "--arm", "no-such-arm"], 4, "no-such-arm"),
        ([*SIM, *SAY, "--target", "no-such-target"], 4, "no-such-target"),
        (SAY, 2, "--sim TASK and --port PORT"),
        ([*SIM, *SAY, "--port", "/dev/ttyUSB9"], 2, "--sim TASK and --port PORT"),
        (SIM, 2, "one of --instruction, --instruction-file, --tasks"),
        ([*SIM, *SAY, "--tasks", "tasks.toml"], 2, "--instruction and --tasks"),
        ([*SIM, "--instruction-file", "no-such-file"], 4, "no-such-file"),
        ([*SIM, "--tasks", "no-such-tasks.toml"], 4, "no-such-tasks.toml"),
        ([*SIM, *SAY, "--seam", "weld"], 2, "weld"),
        ([*SIM, *SAY, "--duration-s", "0"], 2, "duration"),
        ([*SIM, *SAY, "--record", "profiles"], 2, "files in it"),
        ([*SIM, *SAY, "--record", "README.md"], 2, "got:      a file"),
        ([*SIM, *SAY, "--record", "/dev/null/record"], 4, "no record can be written to /dev/null/record"),
        (["--port", "/dev/no-such-port", *SAY], 2, "no source for camera corner"),
        (["--sim", "no-such-task", *SAY], 4, "no-such-task"),
    ],
)
def test_a_wrong_call_is_one_clear_error_with_its_exit_code(tiny_bundle_path, arguments, code, text):
    done = edgevla_run("--bundle", tiny_bundle_path, *arguments)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert done.stderr.count("expected:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("second", "given", "lacking"),
    [
        (replace(WRIST, when_missing="refuse"), {}, "wrist"),
        (replace(WRIST, when_missing="refuse"), {"wrist": "v4l2:0"}, ""),
        (replace(WRIST, when_missing="refuse"), {"front": "v4l2:0"}, ""),
        (WRIST, {}, ""),
    ],
)
def test_a_virtual_arm_draws_one_camera_and_a_second_that_may_not_be_absent_needs_a_source(second, given, lacking):
    bundle = SimpleNamespace(manifest=SimpleNamespace(cameras=(FRONT, second)))
    asked = RunOptions(instruction="open", sim="drawer-open-v3", cameras=given)
    refused = pytest.raises(Usage, match=f"no source for camera {lacking}") if lacking else nullcontext()
    with refused:
        _require_cameras(bundle, asked)


def test_a_negative_seed_is_a_usage_error_before_anything_starts(tiny_bundle_path):
    done = edgevla_run("--bundle", tiny_bundle_path, *SIM, *SAY, "--seed", "-1")
    assert done.returncode == 2
    assert "--seed" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("code", "ends_with"), [(0, 4), (5, 5)])
def test_a_record_that_cannot_be_written_after_the_run_costs_no_figures(
    tiny_bundle_path, tmp_path, monkeypatch, capsys, code, ends_with
):
    def disk_full(folder, result):
        raise OSError(errno.ENOSPC, "No space left on device")

    nothing = np.zeros(0)
    result = RunResult("it ended", code, None, {"seed": 3}, nothing, nothing, "why" if code else "")
    monkeypatch.setattr("edgevla.cli.run.run_loop", lambda *_, **__: result)
    monkeypatch.setattr("edgevla.cli.run.write_record", disk_full)
    options = ["--record", str(tmp_path / "record"), "--json"]
    assert run_command(["run", "--bundle", str(tiny_bundle_path), *SIM, *SAY, *options]) == ends_with
    shown = capsys.readouterr()
    assert json.loads(shown.out)["stop_reason"] == "it ended"
    assert "got:      No space left on device" in shown.err
    assert ("error: why" in shown.err) == bool(code)


def test_a_serial_port_where_nobody_answers_is_a_device_error(tiny_bundle_path):
    master, slave = pty.openpty()
    camera = CameraSlot.create(96, 96)
    done = edgevla_run(
        *("--bundle", tiny_bundle_path, "--port", os.ttyname(slave), "--camera-fd", camera.fd, *SAY),
        pass_fds=[camera.fd],
    )
    camera.close()
    os.close(master)
    os.close(slave)
    assert done.returncode == 5, done.stderr
    assert "no edgelink device answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_altered_bundle_is_bad_input(bundle_copy):
    model = bundle_copy / "model" / "head.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    done = edgevla_run("--bundle", bundle_copy, *SIM, *SAY)
    assert done.returncode == 4
    assert "model/head.onnx" in done.stderr


def test_no_bundle_at_all_is_bad_input(tmp_path):
    done = edgevla_run("--bundle", tmp_path / "nothing.bundle", *SIM, *SAY)
    assert done.returncode == 4
    assert "nothing.bundle" in done.stderr


def test_a_timing_contract_that_cannot_hold_is_refused_in_numbers(tiny_bundle_path, tmp_path):
    target = tmp_path / "greedy.toml"
    target.write_text(LOOSE.replace("survive_misses = 2", "survive_misses = 3"))
    done = edgevla_run("--bundle", tiny_bundle_path, "--target", target, *SIM, *SAY)
    assert done.returncode == 1
    assert "2 + 4 * 8 = 34 <= 32" in done.stderr


def test_a_bundle_whose_start_range_the_arm_is_not_in_is_refused_before_arming(tmp_path, loose_target):
    bundle = write_tiny_bundle(tmp_path / "far.bundle", start_low=[0.4, 0.40, 0.05, -1.0]).path
    done = edgevla_run("--bundle", bundle, "--target", loose_target, *SIM, *SAY, "--best-effort")
    assert done.returncode == 1, done.stderr
    assert "outside the start range in x" in done.stderr
