"""A venv from wheels without pip: what it holds, that it runs, and every wheel that is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from edgevla.errors import BadInput
from edgevla.install.venv import bytes_needed, check_venv, make_venv, this_interpreter
from edgevla.install.wheel import Wheel
from tests.edgevla.install.kit import record_bytes, wheel_bytes, zip_bytes

PYTHON = this_interpreter()
SITE = PYTHON.site


def written(folder: Path, raw: bytes, name: str = "edgevla-0.0.1-py3-none-any.whl") -> Path:
    (folder / name).write_bytes(raw)
    return folder / name


def odd_wheel(content: dict[str, bytes], record: bytes | None = None) -> bytes:
    at = "odd-1.dist-info/RECORD"
    return zip_bytes({**content, at: record_bytes(content, at) if record is None else record})


def test_the_command_runs_isolated_through_any_link_after_a_move(tmp_path: Path) -> None:
    wheel = written(tmp_path, wheel_bytes())
    final = tmp_path / "releases" / "x"
    assert make_venv(tmp_path / "staged", [wheel], PYTHON, final) == 7
    final.parent.mkdir()
    (tmp_path / "staged").rename(final)
    (tmp_path / "current").symlink_to("releases/x")
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working folder')")
    command = [str(tmp_path / "current" / "bin" / "edgevla"), "run", "a b", "$HOME"]
    hostile = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=hostile)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["args"] == ["run", "a b", "$HOME"]


def test_python_is_compiled_and_nothing_is_written_when_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    make_venv(folder, [written(tmp_path, wheel_bytes())], PYTHON, folder)
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    assert any(path.suffix == ".pyc" for path in before)
    code = "import edgevla.cli.entry, sys; print(edgevla.cli.entry.__cached__, sys.prefix)"
    done = subprocess.run([folder / "bin" / "python3", "-I", "-c", code], capture_output=True, text=True, timeout=60)
    cached, prefix = done.stdout.split()
    assert Path(cached) in before
    assert Path(prefix) == folder
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_a_wheel_declares_is_at_least_what_lies_there(tmp_path: Path) -> None:
    wheel, folder = written(tmp_path, wheel_bytes()), tmp_path / "venv"
    size, files = bytes_needed([wheel], PYTHON)
    make_venv(folder, [wheel], PYTHON, folder)
    assert files >= len([path for path in folder.rglob("*") if path.is_file()])
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    assert size >= taken


def test_an_altered_file_of_the_environment_is_named(tmp_path: Path) -> None:
    wheel, folder = written(tmp_path, wheel_bytes()), tmp_path / "venv"
    make_venv(folder, [wheel], PYTHON, folder)
    check_venv(folder, [wheel], PYTHON)
    (folder / SITE / "edgevla" / "cli" / "entry.py").write_bytes(b"raise SystemExit\n")
    with pytest.raises(BadInput, match=r"entry\.py: the release is damaged"):
        check_venv(folder, [wheel], PYTHON)
    (folder / SITE / "edgevla" / "cli" / "entry.py").unlink()
    with pytest.raises(BadInput, match=r"entry\.py"):
        check_venv(folder, [wheel], PYTHON)


def test_scripts_data_and_libraries_go_where_they_belong(tmp_path: Path) -> None:
    content = {
        "odd-1.data/scripts/tool": b"#!python\nprint('tool')\n",
        "odd-1.data/purelib/odd_a.py": b"",
        "odd-1.data/platlib/odd_b.py": b"",
        "odd-1.data/data/share/odd/text": b"words",
        "odd-1.data/headers/odd.h": b"int x;",
    }
    wheels = [written(tmp_path, wheel_bytes()), written(tmp_path, odd_wheel(content), "odd-1-py3-none-any.whl")]
    folder = tmp_path / "venv"
    make_venv(folder, wheels, PYTHON, folder)
    assert (folder / "bin" / "tool").read_bytes() == b"#!/usr/bin/env python3\nprint('tool')\n"
    assert (folder / "bin" / "tool").stat().st_mode & 0o111
    assert (folder / SITE / "odd_a.py").exists()
    assert (folder / SITE / "odd_b.py").exists()
    assert (folder / "share" / "odd" / "text").read_bytes() == b"words"
    assert not list(folder.rglob("odd.h"))
    check_venv(folder, wheels, PYTHON)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"../outside": b""}, "plain relative paths"),
        ({"/etc/x": b""}, "plain relative paths"),
        ({"a\\b": b""}, "plain relative paths"),
        ({"a//b": b""}, "plain relative paths"),
        ({"odd-1.data/data/bin/python3": b""}, "over the interpreter"),
        ({"odd-1.data/data/pyvenv.cfg": b""}, "over the interpreter"),
        ({"odd-1.data/scripts/edgevla": b""}, "over the interpreter"),
        ({"odd-1.data/other/x": b""}, "purelib"),
    ],
)
def test_a_wheel_that_writes_elsewhere_is_refused(content: dict[str, bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        Wheel(written(tmp_path, odd_wheel(content)), SITE)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"a.py,sha256=AAAA,1\n", "sha256=... of a.py"),
        (b"a.py,md5=AAAA,1\n", "sha256=... of a.py"),
        (b"a.py\n", "path, hash and size"),
        (b"odd-1.dist-info/RECORD,,\n", "only files of RECORD"),
        (record_bytes({"a.py": b"", "b.py": b""}, "odd-1.dist-info/RECORD"), "b.py is missing"),
        (b"\xff", "a wheel with a RECORD"),
    ],
)
def test_a_wrong_record_is_refused(record: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        Wheel(written(tmp_path, odd_wheel({"a.py": b""}, record)), SITE)


def test_a_file_that_is_not_what_record_says_is_refused(tmp_path: Path) -> None:
    record = record_bytes({"a.py": b"x = 1\n"}, "odd-1.dist-info/RECORD")
    wheel = written(tmp_path, odd_wheel({"a.py": b"x = 2\n"}, record))
    with pytest.raises(BadInput, match=r"a\.py with the sha256 of RECORD"):
        make_venv(tmp_path / "venv", [wheel], PYTHON, tmp_path / "venv")


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a zip file"):
        Wheel(written(tmp_path, b"no zip"), SITE)
    with pytest.raises(BadInput, match="one NAME"):
        Wheel(written(tmp_path, zip_bytes({"a.py": b""})), SITE)
    cut = wheel_bytes()
    with pytest.raises(BadInput):
        make_venv(tmp_path / "venv", [written(tmp_path, cut[:40] + b"\0" * 40 + cut[80:])], PYTHON, tmp_path)


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        info = zipfile.ZipInfo("a.py")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("odd-1.dist-info/RECORD", record_bytes({"a.py": b"/etc/passwd"}, "odd-1.dist-info/RECORD"))
    with pytest.raises(BadInput, match="a link or a special file"):
        Wheel(tmp_path / "w.whl", SITE)


def test_two_wheels_may_share_a_file_but_not_differ_about_it(tmp_path: Path) -> None:
    first = written(tmp_path, wheel_bytes())
    same = written(tmp_path, odd_wheel({"edgevla/__init__.py": b""}), "same.whl")
    make_venv(tmp_path / "a", [first, same], PYTHON, tmp_path / "a")
    other = written(tmp_path, odd_wheel({"edgevla/__init__.py": b"x = 1\n"}), "other.whl")
    with pytest.raises(BadInput, match=r"different files .*edgevla/__init__\.py"):
        make_venv(tmp_path / "b", [first, other], PYTHON, tmp_path / "b")


def test_without_edgevla_there_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no wheel of edgevla"):
        make_venv(tmp_path / "venv", [written(tmp_path, odd_wheel({"a.py": b""}))], PYTHON, tmp_path)


def test_the_interpreter_is_the_systems_not_that_of_a_venv() -> None:
    assert "venv" not in PYTHON.executable.parts
    assert PurePosixPath("lib", f"python{PYTHON.short}", "site-packages") == SITE
    said = subprocess.run(
        [PYTHON.executable, "-c", "import sys; print(sys.prefix == sys.base_prefix)"], capture_output=True
    )
    assert said.stdout == b"True\n"
    assert shutil.which(PYTHON.executable)
