"""The "Bad input" list of issue 2, typed as a user types it: one clear error each, its exit code, nothing left over."""

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgevla.sensors.camera import CameraSlot
from tests.export.tiny import write_counting_dataset, write_teacher

ROOT = Path(__file__).parents[1]
PATIENCE_S = 400.0  # a safety net for a busy machine, not a measurement
SIM = ["--sim", "drawer-open-v3"]
SAY = ["--instruction", "open the drawer"]
ARM = ["--arm", "metaworld-sawyer"]


def edgevla(*arguments, folder=None, pass_fds=(), typed=None, state=None):
    """The command in a process of its own, in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "edgevla.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(state or "")},
        timeout=PATIENCE_S,
        input=typed,
        pass_fds=pass_fds,
    )


def require_one_clear_error(done, code, *words, said=""):
    """What, expected, got, what to do: each once; before it only lines that begin with `said` (cameras may stall)."""
    assert done.returncode == code, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    for part in ("expected:", "got:", "to do:"):
        assert done.stderr.count(part) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    others = [line for line in done.stdout.splitlines() if not (said and line.startswith(said))]
    assert others == [], done.stdout


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def truncate(bundle):
    path = bundle / "model" / "head.onnx"
    path.write_bytes(path.read_bytes()[:-100])


def alter(bundle):
    path = bundle / "model" / "head.onnx"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def remove(bundle):
    (bundle / "model" / "head.onnx").unlink()


def rewrite_the_manifest(bundle):
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"d_max": 8', '"d_max": 9'))


SPOILT = {
    truncate: ("model/head.onnx", " bytes"),
    alter: ("model/head.onnx", "sha256"),
    remove: ("model/head.onnx", "missing"),
    rewrite_the_manifest: ("manifest.json", "sha256"),
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_damaged_bundle_is_not_run_and_nothing_is_recorded(bundle_copy, tmp_path, spoil):
    spoil(bundle_copy)
    before = listing(tmp_path)
    done = edgevla("run", "--bundle", bundle_copy, *ARM, *SIM, *SAY, "--record", tmp_path / "record", folder=tmp_path)
    require_one_clear_error(done, 4, *SPOILT[spoil])
    assert listing(tmp_path) == before


@pytest.mark.parametrize("command", [["check"], ["bundle", "show"], ["bundle", "verify"]], ids=" ".join)
def test_no_command_takes_a_damaged_bundle(bundle_copy, command):
    alter(bundle_copy)
    require_one_clear_error(edgevla(*command, bundle_copy), 4, "model/head.onnx", "damaged or altered")


def test_an_instruction_outside_the_vocabulary_is_answered_with_the_word_that_was_meant(tiny_bundle_path, tmp_path):
    done = edgevla("run", "--bundle", tiny_bundle_path, *SIM, "--instruction", "open the drawr", folder=tmp_path)
    require_one_clear_error(done, 4, "'drawr'", "did you mean drawer?")
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "known"),
    [
        (["--target", "jetson-nano"], "jetson-orin"),
        (["--arm", "toaster"], "metaworld-sawyer"),
        (["--sim", "fridge-open-v3"], "drawer-open-v3"),
    ],
    ids=["target", "arm", "sim"],
)
def test_an_unknown_name_is_answered_with_the_known_ones(tiny_bundle_path, tmp_path, option, known):
    sim = [] if option[0] == "--sim" else SIM
    record = ["--record", tmp_path / "record"]
    done = edgevla("run", "--bundle", tiny_bundle_path, *sim, *SAY, *option, *record, folder=tmp_path)
    require_one_clear_error(done, 4, option[1], known)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("option", [["--target", "jetson-nano"], ["--arm", "toaster"]], ids=["target", "arm"])
def test_check_refuses_an_unknown_name_too(tiny_bundle_path, option):
    require_one_clear_error(edgevla("check", tiny_bundle_path, *option), 4, option[1])


@pytest.fixture
def camera(tiny_bundle_path, tmp_path_factory):
    """Words that name a camera, a grey film again and again, and the state folder in which it is confirmed."""
    folder = tmp_path_factory.mktemp("camera")
    film = cv2.VideoWriter(str(folder / "grey.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 40.0, (96, 96))
    for _ in range(8):
        film.write(np.full((96, 96, 3), 127, np.uint8))
    film.release()
    words = ["--camera", f"corner=file:{folder / 'grey.avi'},loop"]
    done = edgevla("camera", "check", "--bundle", tiny_bundle_path, *words, "--confirm", typed="y\n", state=folder)
    assert (folder / "edgevla" / "cameras.json").exists(), done.stderr
    return words, folder


def test_a_serial_port_that_is_not_there_is_a_device_error(tiny_bundle_path, tmp_path, camera):
    words, state = camera
    done = edgevla("run", "--bundle", tiny_bundle_path, *SAY, *words, "--port", "ttyUSB7", folder=tmp_path, state=state)
    require_one_clear_error(done, 5, "ttyUSB7", said="camera corner")
    assert listing(tmp_path) == []


def test_a_serial_port_where_nobody_answers_is_a_device_error(tiny_bundle_path, tmp_path, camera):
    words, state = camera
    master, slave = pty.openpty()
    port = os.ttyname(slave)
    done = edgevla("run", "--bundle", tiny_bundle_path, *SAY, *words, "--port", port, folder=tmp_path, state=state)
    os.close(master)
    os.close(slave)
    require_one_clear_error(done, 5, "no edgelink device answers", said="camera corner")
    assert listing(tmp_path) == []


@pytest.fixture
def arm_port():
    """A virtual arm on its pty, without a camera."""
    arm = subprocess.Popen(
        [sys.executable, "-m", "edgevla.sim.virtual_arm", "--plant", "integrator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    yield json.loads(arm.stdout.readline())["port"], arm
    arm.communicate()


def test_a_camera_of_another_size_is_refused_before_the_arm_moves(tiny_bundle_path, tmp_path, arm_port):
    port, arm = arm_port
    camera, ended = CameraSlot.create(48, 48), threading.Event()

    def film():
        while not ended.wait(0.02):
            camera.publish(np.zeros((48, 48, 3), np.uint8), time.monotonic_ns())

    filming = threading.Thread(target=film)
    filming.start()
    try:
        options = ["--port", port, "--camera-fd", camera.fd, "--best-effort", "--record", tmp_path / "record"]
        done = edgevla("run", "--bundle", tiny_bundle_path, *SAY, *options, folder=tmp_path, pass_fds=[camera.fd])
    finally:
        ended.set()
        filming.join()
        camera.close()
    assert done.returncode == 4, done.stderr
    assert "wrong size" in done.stderr
    assert "48" in done.stderr
    assert "96" in done.stderr
    assert "Traceback" not in done.stderr
    out, _ = arm.communicate()
    assert json.loads(out.splitlines()[-1])["accepted"] == 0  # no command ever reached the plant


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "7"], ("--budget", "7m or 1h")),
        (["-o", "student"], ("NAME.bundle",)),
        (["--examples", "100"], ("--examples", "512")),
        (["--mode", "magic"], ("--mode", "distil")),
    ],
    ids=["budget", "out", "examples", "mode"],
)
def test_compress_called_wrongly_is_exit_code_2(tmp_path, options, words):
    defaults = {"-o": "student.bundle", "--budget": "10s"}
    merged = {**defaults, options[0]: options[1]}
    flat = [part for pair in merged.items() for part in pair]
    done = edgevla("compress", "teacher", "--data", "data", *flat, folder=tmp_path)
    require_one_clear_error(done, 2, *words)
    assert listing(tmp_path) == []


def cut_a_shard(folder):
    shard = folder / "data" / "drawer-open-v3.npz"
    shard.write_bytes(shard.read_bytes()[:5000])


def lose_the_weights(folder):
    (folder / "teacher" / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [(cut_a_shard, "a whole drawer-open-v3.npz"), (lose_the_weights, "model.safetensors")],
    ids=["shard", "weights"],
)
def test_compress_of_damaged_input_starts_nothing_and_writes_nothing(tmp_path, spoil, word):
    write_teacher(tmp_path / "teacher")
    write_counting_dataset(tmp_path / "data")
    spoil(tmp_path)
    before = listing(tmp_path)
    done = edgevla("compress", "teacher", "--data", "data", "-o", "s.bundle", "--json", folder=tmp_path)
    require_one_clear_error(done, 4, word)
    assert listing(tmp_path) == before


def test_debug_shows_the_traceback_of_the_same_error(tmp_path):
    done = edgevla("check", "none.bundle", "--debug", folder=tmp_path)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "none.bundle is no bundle" in done.stderr


def test_a_bundle_that_was_copied_whole_is_taken(tiny_bundle_path, tmp_path):
    copy = shutil.copytree(tiny_bundle_path, tmp_path / "whole.bundle")
    assert edgevla("bundle", "verify", copy).returncode == 0
