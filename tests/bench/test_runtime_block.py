"""The measured half of docs/runtime.md: bounded and observed are never mixed, and nothing absent becomes a number."""

import re

from bench.runtime_block import NOT_YET, runtime_block

CLAIMS = [
    {"name": "wire time", "kind": "proved", "text": "wire <= Ts: 1 ms <= 2 ms", "kept": True},
    {"name": "inference", "kind": "bounded", "text": "p99.9 <= L: 9 ms <= 25 ms", "samples": 10_000, "confidence": 0.99,
     "kept": True},
    {"name": "inference maximum", "kind": "observed", "text": "largest inference seen: 19 ms", "kept": None},
]  # fmt: skip
RATIO = {"median_window": 1.2, "median": 1.2, "low": 0.9, "high": 1.4}


def loop_of(bound_us=230.0, kept=True):
    parts = {f"{name}_{part}_us": value for name in ("ours", "cyclictest")
             for part, value in (("p50", 20), ("p99", 60), ("p999", 110), ("max", 4321))}  # fmt: skip
    row = {"rate_hz": 500, "load": "disk", **parts, "windows": 3, "windows_with_stolen_time": 1, "kept": kept}
    pooled = {"ours": {"count": 13_809, "p999_bound_us": bound_us}}
    bus = {"rate_hz": 500, "no_reply_in_half_a_period": 2, "wire_efficiency": 0.63}
    trip = {"p50_us": 240, "p99_us": 300, "p999_us": 410}
    bus |= {"first_byte": trip, "round_trip": trip}
    return {"rows": [{**row, "ratio_p99": RATIO, "ratio_p999": RATIO, "pooled": pooled}], "bus": [bus]}


SOAK = {
    "rate_hz": 640.0, "load": "policy inference", "key": {"best_effort": False}, "blocks": [{}, {}],
    "ticks": 460_515, "late_commands": 0, "expired_commands": 1, "misses": 7, "skipped_periods": 2, "stolen_s": 0.5,
    "effective_samples": 90_000.0,
    "late_share": {"confidence": 0.99, "bound_if_independent": 1e-5, "bound_by_effective_samples": 5.1e-5},
    "wake": {"p50_us": 21, "p99_us": 50, "p999_us": 90, "max_us": 5_555},
    "first_byte": {"p50_us": 120, "p99_us": 150, "p999_us": 190, "max_us": 6_666},
}  # fmt: skip
STEADY = {
    "ticks": 100_500, "traced_growth_bytes": 5_000, "traced_peak_bytes": 6_182, "minor_faults": 0, "major_faults": 0,
    "collections": 0, "limits": {"traced_growth_bytes": 4_096, "traced_peak_bytes": 65_536, "minor_faults": 0,
                                 "major_faults": 0, "collections": 0},
}  # fmt: skip


def block(loop=None, steady=STEADY, soak=SOAK):
    demo = {"figures": {"claims": CLAIMS}}
    return runtime_block(demo, loop_of() if loop is None else loop, steady, soak, lambda found: "a host")


def halves(text):
    bounded, observed = text.split("## Observed")
    return bounded, observed


def test_without_results_every_row_says_so_and_none_has_a_number():
    text = runtime_block({}, {}, {}, {}, lambda found: "not measured")
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith(("|  |", "| ---")):
            assert NOT_YET in line
            assert not re.search(r"\d", line.split("|", 2)[2]), line


def test_maxima_and_percentiles_of_a_run_stand_under_observed_only():
    bounded, observed = halves(block())
    for seen in ("4,321", "5,555", "6,666", "20 / 60 / 110", "19 ms"):
        assert seen not in bounded
        assert seen in observed


def test_what_has_a_confidence_stands_under_bounded_only():
    bounded, observed = halves(block())
    for row in (
        "| `check`, inference: kept | p99.9 <= L: 9 ms <= 25 ms | 10,000 | 99 % |",
        "| soak, late commands of all, were they independent | <= 1e-05 | 460,515 | 99 % |",
        "| soak, late commands of all, by effective samples | <= 5.1e-05 | 90,000 | 99 % |",
        "| wake after deadline, 500 Hz, disk | p99.9 <= 230 us | 13,809 | 99 % |",
    ):
        assert row in bounded
    assert "99 %" not in observed


def test_what_arithmetic_proves_stands_in_neither():
    assert "wire <= Ts" not in block()


def test_too_few_samples_bound_nothing():
    assert "| wake after deadline, 500 Hz, disk | too few samples | 13,809 | - |" in block(loop_of(bound_us=None))


def test_a_goal_that_is_missed_is_said_in_bold():
    assert "| traced memory, net growth | 4,096 B | 5,000 B | **missed** |" in block()
    assert "| traced memory, peak above the start | 65,536 B | 6,182 B | kept |" in block()
    assert "4,321 / 4,321 | **missed** |" in block(loop_of(kept=False))
    assert "4,321 / 4,321 | kept |" in block()


def test_a_soak_without_real_time_rights_says_so():
    assert "--best-effort" in block(soak={**SOAK, "key": {"best_effort": True}})
    assert "--best-effort" not in block()


def test_each_result_names_its_host():
    assert block().count("a host") == 6
