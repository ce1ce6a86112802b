"""The two recorded policies, written once; tests that change a folder link its weights into one of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export.teachers.lerobot.recorded import Recorded, load_recorded, with_mode


@pytest.fixture(scope="session")
def act() -> Recorded:
    return load_recorded("act")


@pytest.fixture(scope="session")
def diffusion() -> Recorded:
    return load_recorded("diffusion")


@pytest.fixture(scope="session")
def act_folder(act, tmp_path_factory) -> Path:
    """Not to be written to."""
    return act.write(tmp_path_factory.mktemp("act") / "base")


@pytest.fixture(scope="session")
def diffusion_folder(diffusion, tmp_path_factory) -> Path:
    """Not to be written to."""
    return diffusion.write(tmp_path_factory.mktemp("diffusion") / "base")


@pytest.fixture
def copy(tmp_path) -> Callable[..., Path]:
    """copy(folder, mode=..., key=value...): a folder of the test's own, with another mode and other config entries."""

    def make(folder: Path, mode: str | None = None, **config: object) -> Path:
        target = tmp_path / "copy"
        target.mkdir()
        for path in folder.iterdir():
            if path.suffix == ".json":
                (target / path.name).write_text(json.dumps(with_mode(json.loads(path.read_text()), mode)))
            else:
                os.link(path, target / path.name)
        change(target, **config)
        return target

    return make


def change(folder: Path, **config: object) -> None:
    values = json.loads((folder / "config.json").read_text())
    values.update(config)
    (folder / "config.json").write_text(json.dumps(values))
