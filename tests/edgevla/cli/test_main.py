"""The command line as a user meets it: help, JSON, one error block, the exit codes of the design."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edgevla.bundle import write_bundle
from edgevla.cli.main import INTERNAL_ERROR, SUMMARIES, describe, run_command
from edgevla.errors import BadInput, DeviceFault, Refused, Unsound, Usage
from firmware_bridge.errors import BridgeError
from profiles import ProfileError
from tests.tiny_bundle import tiny_files, tiny_manifest, write_tiny_bundle

ROOT = Path(__file__).parents[3]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in SUMMARIES)


def test_no_argument_at_all_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([]) == 0
    assert "Usage" in capsys.readouterr().out


def test_help_imports_neither_the_exporter_nor_a_simulator_nor_a_model_runtime() -> None:
    code = (
        "import sys; from edgevla.cli.main import run_command; run_command(['--help']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'export', 'bench', 'metaworld', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        *([], ["bundle"], ["profiles"], ["bench"]),
        *(["bundle", "show"], ["bundle", "verify"], ["profiles", "list"], ["check"]),
        *(["doctor"], ["run"], ["say"], ["camera"], ["camera", "list"], ["camera", "check"]),
        *(["flight"], ["replay"], ["harvest"], ["bench", "loop"], ["bench", "steady"], ["bench", "soak"]),
    ],
)
def test_every_command_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*command, "--help"]) == 0
    assert "Example: edgevla" in " ".join(capsys.readouterr().out.split())


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edgevla 0.")


@pytest.mark.parametrize("wrong", [["dance"], ["bundle", "show"], ["check", "x", "--nonsense"], ["bundle", "eat"]])
def test_a_wrong_call_is_exit_code_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(wrong) == 2
    assert "Usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("no"), 1),
        (Usage("no"), 2),
        (Unsound("no"), 3),
        (BadInput("no"), 4),
        (ProfileError("no"), 4),
        (DeviceFault("no"), 5),
        (BridgeError("no"), 5),
        (FileNotFoundError(2, "No such file"), 4),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2),
        (ZeroDivisionError("a defect"), INTERNAL_ERROR),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert describe(error)[1] == code


@pytest.mark.parametrize(
    ("error", "what", "todo"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "operation on a file", "free space"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "cannot use out", "permissions"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "in"), "cannot use in", "check the path"),
        (OSError(errno.EIO, "Input/output error", "a", None, "b"), "cannot use a and b", "--debug"),
        (OSError("only words"), "operation on a file", "--debug"),
    ],
)
def test_what_the_system_refuses_is_one_block(error: OSError, what: str, todo: str) -> None:
    first, expected, got, last = describe(error)[0].splitlines()
    assert what in first
    assert expected.startswith("  expected: ")
    assert got == f"  got:      {error.strerror or 'OSError: only words'}"
    assert todo in last


CTRL_C_WHILE_TYPER_IS_IMPORTED = """
import os, signal, sys
class Impatient:
    def find_spec(self, name, *_):
        if name == "typer":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("a library that takes Ctrl-C for a defect of its own")
sys.meta_path.insert(0, Impatient())
sys.argv = ["edgevla", "--help"]
"""


def test_ctrl_c_while_the_command_is_imported_is_one_line() -> None:
    script = re.search(r'^edgevla = "(.+):main"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert script is not None
    code = f"{CTRL_C_WHILE_TYPER_IS_IMPORTED}\nfrom {script[1]} import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: stopped by Ctrl-C\n")


@pytest.mark.parametrize("command", [["--help"], ["profiles", "list"], ["profiles", "show", "so101", "--json"]])
def test_a_reader_of_stdout_that_has_left_is_no_error_and_a_full_disk_is(command: list[str]) -> None:
    call = [sys.executable, "-m", "edgevla.cli.entry", *command]
    reader, writer = os.pipe()
    os.close(reader)
    left = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60)
    os.close(writer)
    assert (left.returncode, left.stderr) == (0, "")
    with open("/dev/full", "w") as disk:
        full = subprocess.run(call, stdout=disk, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60)
    assert full.returncode == 4
    assert full.stderr.startswith("error: cannot use standard output\n")
    assert "No space left" in full.stderr


def test_another_broken_pipe_than_that_of_stdout_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("edgevla.cli.main._add", lambda app, name, _: app.command(name)(broken))
    assert run_command(["profiles"]) == 4
    assert "Broken pipe" in capsys.readouterr().err


def test_a_missing_library_names_the_extra_that_brings_it() -> None:
    text, _ = describe(ModuleNotFoundError("No module named 'mujoco.egl'", name="mujoco.egl"))
    assert "pip install 'edgevla[sim]'" in text


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["bundle", "show", "none.bundle"], "none.bundle is no bundle"),
        (["bundle", "show", ""], "an empty path"),
        (["bundle", "verify", ""], "an empty path"),
        (["bundle", "show", "."], "an empty folder"),
        (["check", "none.bundle"], "none.bundle is no bundle"),
        (["profiles", "show", "toaster"], "toaster"),
        (["profiles", "validate", "none.toml"], "none.toml"),
    ],
)
def test_bad_input_is_one_error_and_no_traceback(
    command: list[str],
    what: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(command) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert what in shown.err
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == []


def test_debug_adds_the_traceback_and_changes_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bundle", "show", str(tmp_path / "none.bundle")]
    code, plain = run_command(command), capsys.readouterr().err
    assert run_command(command, debug=True) == code == BadInput.exit_code
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith(plain)


@pytest.mark.parametrize("name", ["host", "jetson-orin", "metaworld-sawyer"])
def test_a_profile_is_shown_as_a_table_and_as_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["profiles", "show", name]) == 0
    assert name in capsys.readouterr().out
    assert run_command(["profiles", "show", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == name


def test_profiles_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["profiles", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"host", "jetson-orin"} <= set(listed["targets"])
    assert {"metaworld-sawyer", "edgelink-generic"} <= set(listed["arms"])
    assert listed["arms"] == sorted(listed["arms"])


def test_a_profile_of_ones_own_is_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from profiles.loader import _HERE

    mine = tmp_path / "mine.toml"
    mine.write_text((_HERE / "arms" / "metaworld-sawyer.toml").read_text().replace("metaworld-sawyer", "mine"))
    assert run_command(["profiles", "validate", str(mine)]) == 0
    assert "a sound arm profile, mine" in capsys.readouterr().out


def test_a_bundle_is_shown_as_tables_and_as_json(tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bundle", "show", str(tiny_bundle_path)]) == 0
    assert "d_max = 8" in capsys.readouterr().out
    assert run_command(["bundle", "show", str(tiny_bundle_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["manifest"]["timing"]["horizon"] == 32


def test_a_bundle_is_verified_down_to_its_golden_vectors(
    tiny_bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["bundle", "verify", str(tiny_bundle_path), "--json"]) == 0
    verdicts = {v["name"]: v["kept"] for v in json.loads(capsys.readouterr().out)["verdicts"]}
    assert verdicts["golden/000.npz"]
    assert len([name for name in verdicts if name.startswith("interface of")]) == 6


def broken_verdicts(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Name -> what came, of every broken check; exit code 1."""
    assert run_command(["bundle", "verify", str(path), "--json"]) == 1
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    return {v["name"]: v["got"] for v in verdicts if not v["kept"]}


def test_a_stage_that_names_another_stages_graph_is_a_broken_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = tiny_manifest()["stages"]
    stages[2]["file"] = "model/vision.onnx"
    write_tiny_bundle(tmp_path / "x.bundle", stages=stages)
    assert list(broken_verdicts(tmp_path / "x.bundle", capsys)) == ["interface of model/vision.onnx"]


def test_a_graph_that_fails_on_a_golden_vector_is_a_broken_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load_from_string(tiny_files()["model/text.onnx"])
    (table,) = (tensor for tensor in model.graph.initializer if tensor.name == "table")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:2], "table"))  # ids 2 and up lie outside
    files = {**tiny_files(), "model/text.onnx": model.SerializeToString()}
    write_bundle(tmp_path / "x.bundle", tiny_manifest(), files)
    broken = broken_verdicts(tmp_path / "x.bundle", capsys)
    assert list(broken) == ["golden/000.npz"]
    assert "stage text" in broken["golden/000.npz"]
    assert "Gather" in broken["golden/000.npz"]
