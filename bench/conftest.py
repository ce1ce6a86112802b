"""Fixtures of the pytest-benchmark suites. Every result carries percentiles and the host it was measured on."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.suites.bundles import bundle_for_benchmarks
from bench.suites.paths import Place
from bench.suites.percentiles import HEAD, percentiles, table_rows
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.interleaved import collector_off

_TOLD = pytest.StashKey[Sequence[Mapping[str, Any]]]()


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Written into the JSON of ``--benchmark-json``."""
    machine_info["host"] = describe_host()


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Percentiles beside each benchmark's own statistics, and the host at the top."""
    output_json["host"] = output_json["machine_info"]["host"]
    by_name = {one.fullname: one for one in benchmarks}
    for told in output_json["benchmarks"]:
        measured = by_name[told["fullname"]]
        told["percentiles"] = percentiles(measured.stats.data, measured.iterations)
    config.stash[_TOLD] = output_json["benchmarks"]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of percentiles, where a JSON was written."""
    rows = [HEAD, *table_rows(config.stash[_TOLD])] if _TOLD in config.stash else []
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))] if rows else []
    for row in rows:
        cells = [
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        terminalreporter.write_line("  ".join(cells))


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `bench.suites.bundles`."""
    return bundle_for_benchmarks(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def place(tmp_path: Path, bundle_path: Path) -> Iterator[Place]:
    """Where one path is made ready; the collector is off until it is closed."""
    made = Place(tmp_path, bundle_path)
    with made.stack, collector_off():
        yield made
