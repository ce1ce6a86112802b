"""`edgevla sim-arm`: announces a port, ends with its standard input, leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgevla.cli.main import run_command

COMMAND = [sys.executable, "-m", "edgevla.cli.main", "sim-arm", "--plant", "integrator"]


def test_it_announces_its_port_and_ends_with_its_standard_input() -> None:
    arm = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert arm.stdout is not None
    port = json.loads(arm.stdout.readline())["port"]
    assert Path(port).exists()
    out, _ = arm.communicate("", timeout=60)
    assert json.loads(out.splitlines()[-1])["event"] == "exit"
    assert arm.returncode == 0
    assert not Path(port).exists()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--period-s", "0"], 2, "0.0001 <= --period-s <= 10"),
        (["--period-s", "-1"], 2, "0.0001 <= --period-s <= 10"),
        (["--period-s", "nan"], 2, "0.0001 <= --period-s <= 10"),
        (["--plant", "metaworld", "--sim", "nope"], 4, "unknown simulator task"),
    ],
)
def test_a_wrong_arm_is_said_on_stderr_and_no_port_is_announced(options: list[str], code: int, text: str) -> None:
    done = subprocess.run([*COMMAND, *options, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["event"] == "error"


def test_a_negative_seed_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim-arm", "--plant", "integrator", "--seed", "-1"]) == 2
    assert "--seed" in capsys.readouterr().err


def test_an_unknown_plant_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim-arm", "--plant", "potted"]) == 2
    assert "metaworld or integrator" in capsys.readouterr().err
