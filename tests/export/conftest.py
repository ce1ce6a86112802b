"""Made once for all export tests: a small dataset of counted ticks, and a recorded one with a teacher and a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.distill.dataset import Demonstrations
from export.teachers.folder import Teacher
from tests.export.tiny import tiny_teacher, write_counting_dataset, write_teacher


@pytest.fixture(scope="session")
def counting_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    return write_counting_dataset(tmp_path_factory.mktemp("counting"))


@pytest.fixture(scope="session")
def counting(counting_path: Path) -> Demonstrations:
    return Demonstrations(counting_path)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """32 wide, random weights."""
    return tiny_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def wide_teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As wide as the students that `edgevla compress` makes, random weights."""
    return write_teacher(tmp_path_factory.mktemp("wide") / "teacher", width=320, heads=5)
