"""The committed study as a table and as a short list."""

from __future__ import annotations

from bench.structures import REFERENCE, reference_row, structures_block
from bench.summaries import structures_summary

HOST = {"cpu": "a core", "cores": 1}
ROW = {
    "structure": "policy head continuous, 8", "head": "lstm", "history": 8, "tasks": "dark", "parameters": 2_000_000,
    "success": 0.5, "success_ci": [0.4, 0.6], "seeds": 1, "pairs": 120, "frames": 240_000, "train_s": 360.0,
    "p50_ms": 2.5, "p99_ms": 3.5, "rss_mb": 91.0,
}  # fmt: skip
RESULT = {
    "rows": [ROW], "conclusions": ["dark tasks: 1 seed(s), 120 episodes: no ranking is claimed"],
    "raw": [{"train_s": 360.0, "played_s": 720.0}],
    "growth": [{"structure": "policy-head", "window": 16, "p50_ms": 3.0, "memory_bytes": 65_536}], "host": HOST,
}  # fmt: skip
DEMO = {
    "models": {"student_int8": {"parameters": 3_344_272, "p50_ms": 1.1, "p99_ms": 1.7}},
    "success": {"pairs": 120, "student_int8": 0.95}, "host": HOST,
}  # fmt: skip


def test_the_block_shows_the_cells_the_policy_of_the_demo_and_what_may_be_said() -> None:
    block = structures_block(RESULT, DEMO, "a host")
    assert (
        "| policy head continuous, 8 | dark | 50.0 % | 40.0 to 60.0 | 1 x 120 | 2,000,000 | 2.50 | 3.50 | 91 |" in block
    )
    assert f"| {REFERENCE} | plain | 95.0 % |" in block
    assert "Dark tasks: 1 seed(s), 120 episodes: no ranking is claimed." in block
    assert "| policy-head | 16 | 3.00 | 66 |" in block
    assert "0.1 core-hours of training, 0.2 of packing and playing" in block


def test_without_a_study_it_says_so() -> None:
    assert structures_block({}, DEMO, "a host") == "not measured"
    assert reference_row({}) == []


def test_the_short_list_names_the_host_of_every_row() -> None:
    found = structures_summary(RESULT, DEMO)
    assert [row["structure"] for row in found] == [ROW["structure"], REFERENCE]
    assert all(row["host"] for row in found)
    assert found[1]["success_ci"][0] < 0.95 < found[1]["success_ci"][1]
