"""`edgevla profiles` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevla.cli.main import run_command
from tests.tiny_bundle import write_tiny_bundle

MINE = 'extends = "jetson-orin-nx-16"\nname = "mine"\ndescription = "mine"\nmeasured = false\npolicy_threads = 2\n'


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run_command(["profiles", *words]) == 0
    return capsys.readouterr().out


def test_the_list_tells_families_and_what_is_declared(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "list")
    assert "one of 6 modules" in text
    assert "MODE_50W" in text
    listed = json.loads(printed(capsys, "list", "--json"))
    assert listed["families"] == {
        "jetson-orin": [
            *("jetson-agx-orin-64", "jetson-agx-orin-32", "jetson-orin-nx-16", "jetson-orin-nx-8"),
            *("jetson-orin-nano-8", "jetson-orin-nano-4"),
        ]
    }


def test_show_says_of_each_value_which_file_and_line_it_is_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    shown = json.loads(printed(capsys, "show", str(path), "--json"))
    assert shown["policy_threads"] == 2
    assert shown["files"] == [str(path), "jetson-orin-nx-16", "jetson-orin", "generic-aarch64"]
    assert shown["origins"]["policy_threads"] == {"file": str(path), "line": 5}
    assert shown["origins"]["power_modes"]["file"] == "jetson-orin-nx-16"
    assert shown["origins"]["gpu_wheel"] == {"file": None, "line": None}
    text = printed(capsys, "show", str(path))
    assert "mine on" not in text  # the file is called by its path
    assert "jetson-orin-nx-16, line" in text
    assert "MAXN_SUPER" in text


def test_validate_reads_the_files_below_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    assert "a sound target profile, mine, on jetson-orin-nx-16" in printed(capsys, "validate", str(path))
    path.write_text(MINE.replace("policy_threads", "policy_thread"))
    assert run_command(["profiles", "validate", str(path)]) == 4
    error = capsys.readouterr().err
    assert f"{path}, line 5: unknown key `policy_thread`" in error
    assert "did you mean `policy_threads`?" in error


def test_a_family_whose_module_does_not_exist_is_not_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE + 'modules = ["toaster"]\n')
    assert run_command(["profiles", "validate", str(path)]) == 4
    assert f"{path}, line 6: `modules` is wrong" in capsys.readouterr().err


def test_the_module_of_this_board_is_asked_of_this_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "show", "host", "--here", "--json"))["name"] == "host"
    assert run_command(["profiles", "show", "jetson-orin", "--here"]) in (1, 4)  # 1 on x86, 4 on another aarch64 board


def test_run_refuses_the_target_of_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle").path
    other = tmp_path / "other.toml"
    other.write_text(MINE.replace("jetson-orin-nx-16", "host") + 'arch = "aarch64"\n')
    words = ["--bundle", str(bundle), "--sim", "drawer-open-v3", "--instruction", "open the drawer"]
    record = tmp_path / "record"
    assert run_command(["run", *words, "--target", str(other), "--record", str(record)]) == 1
    error = capsys.readouterr().err
    assert "target mine does not run on this machine\n  expected: aarch64\n  got:      x86_64\n" in error
    assert not record.exists()
