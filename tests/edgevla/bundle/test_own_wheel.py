"""edgevla's own wheel for a robot: what is in it, the same bytes twice, and pip takes it."""

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgevla.bundle import own_wheel
from edgevla.bundle.own_wheel import Declared, build_own_wheel, package_files, read_declared

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    name, raw = build_own_wheel()
    path = tmp_path_factory.mktemp("own") / name
    path.write_bytes(raw)
    return path


def test_the_same_files_give_the_same_bytes(wheel):
    assert build_own_wheel() == (wheel.name, wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_it_has_every_file_of_the_robots_packages_and_none_of_the_workstations(wheel):
    project = own_wheel.tomllib.loads((ROOT / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["package-data"]
    robots = ("edgevla", "firmware_bridge", "profiles")
    wanted = {path for name in robots for path in (ROOT / name).rglob("*.py")}
    wanted |= {path for name in robots for pattern in data.get(name, ()) for path in (ROOT / name).glob(pattern)}
    names = {path.relative_to(ROOT).as_posix() for path in wanted if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names <= packed
    assert not {name for name in packed if name.startswith(("export/", "bench/", "tests/"))}
    assert not {name for name in packed if "__pycache__" in name}
    assert "edgevla/bundle/locks/cp310/base.txt" in packed


def test_the_record_holds_every_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/RECORD")]
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(archive.read(name).decode()))}
        assert rows.pop(name) == ["", ""]
        assert rows.keys() == set(archive.namelist()) - {name}
        for path, (digest, size) in rows.items():
            raw = archive.read(path)
            right = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={right}", str(len(raw)))


def test_only_commands_of_the_packed_packages_are_declared():
    declared = read_declared()
    assert {"run", "bundle", "doctor", "check"} <= declared.commands.keys()
    assert not {"bench", "compress", "eval", "harvest"} & declared.commands.keys()
    assert declared.scripts == {"edgevla": "edgevla.cli.entry:main"}
    assert not [line for line in declared.requires if "extra" in line or "torch" in line]


def test_an_installed_edgevla_declares_the_same():
    """Where there is no pyproject.toml, what pip wrote down counts."""
    written = read_declared()
    installed = own_wheel._of_installed()
    assert (installed.version, installed.summary, installed.license) == (
        written.version,
        written.summary,
        written.license,
    )
    assert installed.commands.keys() & {"bench", "compress"} == set()
    assert "Apache License" in installed.license_text


def test_pip_installs_it_and_its_commands_are_the_robots(wheel, tmp_path):
    """A fresh environment with our wheel alone: `edgevla.install` needs nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv/bin/python"
    words = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=120, env=_environment())
    code = (
        "import json, edgevla, edgevla.install.agent_files, profiles, importlib.metadata as m;"
        "d = m.distribution('edgevla');"
        "print(json.dumps([edgevla.__file__, d.version, sorted(e.name for e in d.entry_points), len(d.files)]))"
    )
    told = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, timeout=60, env=_environment(), cwd=tmp_path
    )
    assert told.returncode == 0, told.stderr
    where, version, names, files = json.loads(told.stdout)
    assert where.startswith(str(tmp_path))
    assert version == read_declared().version
    assert set(names) == {"edgevla", *read_declared().commands}
    assert files > len(package_files())
    assert (tmp_path / "venv/bin/edgevla").is_file()


def test_a_requirement_is_written_as_setuptools_writes_it():
    """So that a source tree and what was installed from it pack the same bytes."""
    declared = Declared("1", ("tomli>=2; python_version < '3.11'",), ">=3.10", "", "MIT", {}, {}, "")
    assert 'Requires-Dist: tomli>=2; python_version < "3.11"\n' in own_wheel._metadata(declared)


def test_values_of_the_metadata_stand_where_pip_looks():
    declared = Declared(
        "1.2", ("numpy>=1",), ">=3.10", "words", "Apache-2.0", {"a": "edgevla.a:b"}, {"c": "edgevla.c:d"}, ""
    )
    assert "Requires-Dist: numpy>=1\n" in own_wheel._metadata(declared)
    assert (
        own_wheel._entry_points(declared)
        == "[console_scripts]\na = edgevla.a:b\n\n[edgevla.commands]\nc = edgevla.c:d\n"
    )


def _environment():
    keep = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**keep, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
