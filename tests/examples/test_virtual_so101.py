"""The lines that examples/virtual_so101.py prints, typed one after the other as a newcomer would."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="the extra `camera` is not installed")
pytest.importorskip("onnx", reason="the extra `export` is not installed")

from examples import virtual_so101

EDGEVLA = [sys.executable, "-m", "edgevla.cli.main"]


def typed(line: str) -> list[str]:
    first, *words = shlex.split(line)
    assert first == "edgevla"
    return [*EDGEVLA, *words]


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has confirmed no camera yet."""
    here = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_RUNTIME_DIR": str(tmp_path)}
    return {**os.environ, **here, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_the_printed_lines_drive_the_virtual_arm(tmp_path: Path, place: dict[str, str]) -> None:
    made = [sys.executable, "-m", "examples.virtual_so101", str(tmp_path / "try me")]
    told = subprocess.run(made, capture_output=True, text=True, timeout=60, env=place, check=True).stdout
    arm, *others = [line.strip() for line in told.splitlines() if line.startswith("    edgevla ")]
    assert [shlex.split(line)[1] for line in (arm, *others)] == ["sim-arm", "check", "camera", "run"]
    with subprocess.Popen(typed(arm), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=place) as device:
        assert device.stdin is not None and device.stdout is not None  # noqa: PT018
        port = json.loads(device.stdout.readline())["port"]
        for line in others:
            words = typed(line.replace("PORT", port))
            done = subprocess.run(words, input="y\n", capture_output=True, text=True, timeout=100, env=place)
            assert done.returncode == 0, done.stdout + done.stderr
        device.stdin.close()
    assert "stopped: duration reached" in done.stdout
    released = next(line for line in done.stdout.splitlines() if "chunks released" in line)
    assert int(released.split("│")[2]) > 5


def test_the_bundle_says_of_itself_what_it_is_and_proves_its_arithmetic(tmp_path: Path) -> None:
    from edgevla.bundle.verify import verify_golden

    bundle, _ = virtual_so101.write(tmp_path)
    assert bundle.manifest.arm == "so101"
    assert "random weights" in str(bundle.manifest.recipe)
    assert all(verdict.kept for verdict in verify_golden(bundle))


def test_a_call_without_a_folder_shows_the_usage() -> None:
    done = subprocess.run([sys.executable, "-m", "examples.virtual_so101"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m examples.virtual_so101 FOLDER" in done.stderr
