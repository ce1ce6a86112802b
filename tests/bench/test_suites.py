"""The hot paths are the real ones, and their percentiles are samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.suites.bundles import bundle_for_benchmarks
from bench.suites.paths import SUITES, HotPath, Place, all_paths, of_suite
from bench.suites.percentiles import percentiles, table_rows
from bench.suites.timed import MOST, plan

ROOT = Path(__file__).parents[2]
QUICK = [path for path in all_paths() if path.suite != "compress" and "exchange" not in path.name]


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.name)
def test_a_path_answers_what_it_should_and_again(path: HotPath, tiny_bundle_path: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, tiny_bundle_path, index_mb=1)
    with place.stack:
        made = path.make(place)
        assert all(made.right(made.call()) for _ in range(2))


def test_no_two_paths_have_a_name_and_every_suite_has_some() -> None:
    names = [path.name for path in all_paths()]
    assert len(set(names)) == len(names)
    assert {path.suite for path in all_paths()} == set(SUITES)
    assert [path for suite in SUITES for path in of_suite(suite)] == all_paths()


def test_every_protocol_is_encoded_decoded_and_exchanged() -> None:
    from firmware_bridge.protocols import KINDS

    expected = {f"bus/{kind}: {what}" for kind in KINDS for what in ("encode", "decode", "exchange")}
    assert {path.name for path in of_suite("bus")} == expected


def test_percentiles_are_samples_and_stand_only_where_there_are_enough() -> None:
    told = percentiles([i * 1e-6 for i in range(1, 101)], 1)
    assert told == {
        "p50_us": 50.0,
        "p90_us": 90.0,
        "p99_us": 99.0,
        "max_us": 100.0,
        "count": 100,
        "calls_per_sample": 1,
    }
    assert "p99_us" not in percentiles([1e-6] * 99, 1)
    assert percentiles([1e-6] * 1000, 1)["p99.9_us"] == 1.0
    with pytest.raises(ValueError, match="no sample"):
        percentiles([], 1)


def test_the_table_says_where_a_sample_is_a_batch() -> None:
    one = {"name": "test", "extra_info": {"path": "loop/x"}, "percentiles": percentiles([2e-6] * 10, 7)}
    assert table_rows([one]) == [("loop/x", "2.0", "2.0", "-", "-", "2.0", "10 x 7")]


@pytest.mark.parametrize(
    ("call_s", "expected"), [(1e-3, (800, 1)), (1.0, (5, 1)), (2e-6, (MOST, 3)), (10e-6, (MOST, 1))]
)
def test_the_plan_takes_single_calls_wherever_the_clock_can(call_s: float, expected: tuple[int, int]) -> None:
    assert plan(call_s) == expected


def test_the_bundle_that_was_named_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEVLA_BUNDLE", str(tmp_path / "mine.bundle"))
    assert bundle_for_benchmarks(tmp_path) == tmp_path / "mine.bundle"
    monkeypatch.delenv("EDGEVLA_BUNDLE")
    monkeypatch.chdir(tmp_path)
    assert bundle_for_benchmarks(tmp_path) == tmp_path / "tiny.bundle"


def test_the_json_of_a_suite_has_percentiles_and_host(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    asked = ["bench/suites/test_loop.py", "-k", "ladder", "--benchmark-only", "--benchmark-json", str(out)]
    # Below a worker of pytest-xdist, pytest-benchmark would time nothing.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *asked, "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    told = json.loads(out.read_text())
    (one,) = told["benchmarks"]
    assert one["percentiles"]["count"] == one["stats"]["rounds"]
    assert one["percentiles"]["p50_us"] == pytest.approx(one["stats"]["median"] * 1e6, rel=0.02, abs=0.01)
    assert told["host"]["cores_usable"] >= 1
    assert "loop/ladder: one rung" in done.stdout
