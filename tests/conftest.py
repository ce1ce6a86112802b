"""Shared by all tests: one thread per process, a runtime folder of their own, and a tiny bundle to copy and spoil."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "osmesa")

import pytest

from tests.tiny_bundle import write_tiny_bundle

# `make test` runs these in two processes (`-m parallel`) and then all others alone (`-m "not parallel"`): they compute,
# or wait for programs that do. What a line leaves out with "!" has a deadline to keep: a real loop, a driver on a
# virtual device, a child that is killed, a server. A file that no line names runs alone: that is always right.
PARALLEL = """
export/*
docs/*
test_wheel.py
profiles/*                              !test_openarm.py
bench/test_[a-fhilnr]*.py               !test_loop.py
bench/test_m*.py
bench/test_se*.py
bench/test_s[mu]*.py
bench/test_t[ae]*.py
bench/test_guard.py
bench/test_guard_[cs]*.py                !test_guard_command.py
bench/test_p[eo]*.py
bench/test_profile.py
examples/*                              !test_virtual_so101.py
powercut/*
edgevla/bundle/*
edgevla/trust/*
edgevla/doctor/*
edgevla/install/*                       !test_end_to_end.py test_service.py test_trial.py
edgevla/policy/*                        !test_process.py
edgevla/telemetry/*                     !test_rows.py
edgevla/control/test_[acdekl]*.py       !test_clock.py
edgevla/control/test_m[a]*.py
edgevla/control/test_schedule.py
edgevla/control/test_shm_model.py
edgevla/sim/test_[lm]*.py
firmware_bridge/*/test_codec.py
firmware_bridge/*/test_quick.py
firmware_bridge/*/test_virtual.py
firmware_bridge/*/test_answers.py
firmware_bridge/firmware/test_c*.py
firmware_bridge/firmware/test_limiter*.py
"""
_ALONE = {line.split()[0]: line.replace("!", " ").split()[1:] for line in PARALLEL.strip().splitlines()}


def computes(path: Path) -> bool:
    """Whether the test file, relative to this folder, is one of PARALLEL."""
    found = [alone for pattern, alone in _ALONE.items() if fnmatch(path.as_posix(), pattern)]
    return bool(found) and not any(path.name in alone for alone in found)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what computes."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and computes(item.path.relative_to(here)):
            item.add_marker(pytest.mark.parallel)


@pytest.fixture(scope="session", autouse=True)
def own_runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of these tests listen where no `edgevla say` of another program speaks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RUNTIME_DIRECTORY", raising=False)
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("xdg")))
        yield


@pytest.fixture(scope="session")
def tiny_bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid bundle; not to be written to."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle").path


@pytest.fixture
def bundle_copy(tiny_bundle_path: Path, tmp_path: Path) -> Path:
    """A valid bundle of the test's own."""
    return Path(shutil.copytree(tiny_bundle_path, tmp_path / "copy.bundle"))
