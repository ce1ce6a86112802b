"""The memory figure: peaks are seen, baselines taken off, goals judged."""

from __future__ import annotations

import mmap
import time
from typing import Any

import numpy as np
import pytest

from bench.teacher_memory import above, judge, resident, summary, watched
from edgevla.errors import Refused

MB = 1 << 20


def test_a_peak_that_is_gone_at_the_end_is_seen() -> None:
    before = resident()
    # Mapped, not malloc'd: another test of this process may have told malloc to keep what is freed.
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with watched() as peak, mmap.mmap(-1, 64 * MB, flags=private) as block:
        np.frombuffer(block, np.uint8).fill(1)
        time.sleep(0.02)
    seen = above(peak, before)
    assert seen["rss"] > 60 * MB
    assert seen["anon"] > 60 * MB
    assert seen["hwm"] > 60 * MB
    assert resident()["rss"] - before["rss"] < 60 * MB


def test_mapped_pages_count_as_file_and_in_the_sum(tmp_path: Any) -> None:
    path = tmp_path / "pages"
    path.write_bytes(bytes(32 * MB))
    before = resident()
    with watched() as peak:
        pages = np.memmap(path, np.uint8, "r")
        assert int(pages.sum()) == 0
        time.sleep(0.02)
    seen = above(peak, before)
    assert seen["file"] > 30 * MB
    assert seen["rss"] > 30 * MB
    assert seen["anon"] < 16 * MB


def test_ratios_take_the_largest_peak_over_the_smallest_fp32() -> None:
    def row(parameters: int, loaded: int, rss: int, hwm: int, answering: int) -> dict[str, Any]:
        return {
            "parameter_bytes": parameters,
            "loaded": {"rss": loaded},
            "loading_peak": {"rss": rss, "hwm": hwm},
            "answering_peak": {"hwm": answering},
        }

    rows = {
        "fp32": row(1000, 1000, 1500, 1600, 2000),
        "nf4": row(180, 200, 300, 400, 500),
        "nf4-whole": row(180, 200, 1200, 1100, 500),
    }
    assert summary(rows) == {
        "nf4_parameter_bytes_ratio": 0.18,
        "nf4_teacher_memory_ratio": 0.4,
        "nf4_answering_memory_ratio": 0.25,
        "nf4_loaded_whole_ratio": 1.2,
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"nf4_teacher_memory_ratio": 0.46}, "nf4_teacher_memory_ratio"),
        ({"nf4_parameter_bytes_ratio": 0.26}, "nf4_parameter_bytes_ratio"),
        ({"parameters": 399_000_000}, "parameters"),
    ],
)
def test_a_missed_goal_is_named(change: dict[str, float], named: str) -> None:
    kept = {
        "parameters": 402_000_000,
        "nf4_parameter_bytes_ratio": 0.2,
        "nf4_teacher_memory_ratio": 0.4,
        "goals": {"nf4_parameter_bytes_ratio": 0.25, "nf4_teacher_memory_ratio": 0.45},
    }
    judge(kept)
    with pytest.raises(Refused, match=named):
        judge({**kept, **change})
