"""Shared by all tests: one thread per process, a runtime folder of their own, and a tiny bundle to copy and spoil."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "osmesa")

import pytest

from tests.tiny_bundle import write_tiny_bundle


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
