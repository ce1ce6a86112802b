"""Interleaved timing: what is called, in which order, and its statistics. No assertion on speed."""

import gc

import numpy as np
import pytest

from edgevla.telemetry import interleaved


def test_every_callable_is_called_once_a_round_after_warm_up():
    calls = {"a": 0, "b": 0}
    both = {"a": lambda: _count(calls, "a"), "b": lambda: _count(calls, "b")}
    result = interleaved.measure(both, rounds=20, warmup=3)
    assert calls == {"a": 23, "b": 23}
    assert result.rounds == 20
    assert {name: v.size for name, v in result.ns.items()} == {"a": 20, "b": 20}
    assert all((values > 0).all() for values in result.ns.values())


def test_the_order_changes_between_rounds():
    seen = []
    interleaved.measure({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=40, warmup=0)
    assert {tuple(seen[i : i + 2]) for i in range(0, 80, 2)} == {("a", "b"), ("b", "a")}


def test_settling_calls_are_not_timed():
    calls = {"a": 0}
    result = interleaved.measure({"a": lambda: _count(calls, "a")}, rounds=5, warmup=0, settle=2)
    assert calls == {"a": 15}
    assert result.ns["a"].size == 5


def test_stages_are_collected_under_the_name_of_their_callable():
    probes = {"int8": lambda: {"vision": 7}}
    result = interleaved.measure({"int8": lambda: None}, rounds=4, warmup=2, probes=probes)
    assert result.ns["int8/vision"].tolist() == [7, 7, 7, 7]


def test_the_collector_is_off_inside_and_back_afterwards():
    states = []
    interleaved.measure({"a": lambda: states.append(gc.isenabled())}, rounds=3, warmup=0)
    assert states == [False, False, False]
    assert gc.isenabled()


def test_the_collector_comes_back_after_an_error():
    with pytest.raises(ZeroDivisionError):
        interleaved.measure({"a": lambda: 1 // 0}, rounds=3)
    assert gc.isenabled()


def test_a_time_limit_ends_the_run_after_a_whole_round():
    result = interleaved.measure({"a": lambda: None, "b": lambda: None}, rounds=1000, warmup=0, limit_s=0.0)
    assert result.rounds == 2
    assert result.ns["a"].size == result.ns["b"].size == 2


def test_percentiles_are_samples_that_occurred():
    ns = np.arange(1, 101) * 1_000_000
    assert interleaved.percentile_ns(ns, 50) == 50_000_000
    assert interleaved.percentile_ns(ns, 99) == 99_000_000
    assert interleaved.summarise(ns)["p99_ms"] == 99.0


def test_the_ratio_is_taken_round_by_round_so_common_drift_cancels():
    fast = (1_000_000 * np.linspace(1, 50, 300)).astype(np.int64)
    ratio = interleaved.paired_ratio(2 * fast, fast)
    assert ratio.median == pytest.approx(2.0, abs=1e-6)
    assert (ratio.low, ratio.high) == pytest.approx((2.0, 2.0), abs=1e-6)


def test_the_interval_of_the_ratio_covers_the_truth():
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(100):
        fast = rng.lognormal(13, 0.2, 120)
        slow = 2.5 * fast * rng.lognormal(0, 0.1, 120)
        series = (slow.astype(np.int64), fast.astype(np.int64))
        ratio = interleaved.paired_ratio(*series, resamples=400, seed=seed)
        covered += ratio.low <= 2.5 <= ratio.high
    assert covered >= 85  # nominal 95; 85 is 4.6 sigma below


def test_series_of_different_length_are_refused():
    with pytest.raises(ValueError, match="two equal series"):
        interleaved.paired_ratio(np.ones(3, np.int64), np.ones(4, np.int64))


def test_figures_are_plain_integers():
    figures = interleaved.measure({"a": lambda: None}, rounds=2, warmup=0).as_figures()
    assert all(type(v) is int for v in figures["a"])


def _count(calls, name):
    calls[name] += 1
