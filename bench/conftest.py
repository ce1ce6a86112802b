"""Fixtures of the pytest-benchmark suites. Every result carries the host it was measured on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgevla.telemetry.host import describe_host

STUDENT = Path("out/student.bundle")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Written into the JSON of ``--benchmark-json``."""
    machine_info["host"] = describe_host()


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$EDGEVLA_BUNDLE, else out/student.bundle, else the tiny bundle of the tests (no real policy)."""
    named = os.environ.get("EDGEVLA_BUNDLE")
    if named:
        return Path(named)
    if STUDENT.is_dir():
        return STUDENT
    from tests.tiny_bundle import write_tiny_bundle

    path = tmp_path_factory.mktemp("bench") / "tiny.bundle"
    write_tiny_bundle(path)
    return path
