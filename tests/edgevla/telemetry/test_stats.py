"""Percentiles describe, bounds prove: checked against closed forms and the samples that the facts name."""

import math

import numpy as np
import pytest

from edgevla.errors import Unsound
from edgevla.telemetry.host import stolen_s
from edgevla.telemetry.stats import (
    samples_needed,
    summarise,
    upper_bound_quantile,
    wilson_interval,
    window_percentiles,
)


@pytest.mark.parametrize(("quantile", "needed"), [(0.999, 4603), (0.9999, 46050), (0.99999, 460515)])
def test_the_samples_that_prove_a_quantile_at_99_percent(quantile, needed):
    assert abs(samples_needed(quantile, 0.99) - needed) <= 1


def test_percentiles_are_samples_that_were_measured():
    summary = summarise(range(1, 1001))
    assert (summary.count, summary.p50, summary.p99, summary.p999, summary.maximum) == (
        1000,
        500,
        990,
        999,
        1000,
    )


def test_a_summary_of_nothing_is_unsound():
    with pytest.raises(Unsound):
        summarise([])


def test_with_just_enough_samples_only_the_maximum_bounds():
    assert upper_bound_quantile(np.arange(4603)) == 4602


def test_one_sample_fewer_is_unsound():
    with pytest.raises(Unsound, match="at least 4603"):
        upper_bound_quantile(np.arange(4602))


@pytest.mark.parametrize("count", [4603, 6636, 6637, 8403, 10000, 50000])
def test_the_order_statistic_is_the_lowest_that_keeps_the_confidence(count):
    bound = int(upper_bound_quantile(np.arange(count)))
    allowed = count - 1 - bound

    def below(i):
        return sum(math.comb(count, k) * 0.001**k * 0.999 ** (count - k) for k in range(i + 1))

    assert below(allowed) <= 0.01
    assert below(allowed + 1) > 0.01


def test_the_bound_covers_the_true_quantile_as_often_as_promised():
    rng = np.random.default_rng(3)
    true = -math.log(0.001)  # p99.9 of the unit exponential
    covered = sum(upper_bound_quantile(rng.exponential(size=5000)) >= true for _ in range(1000))
    assert covered >= 980


def test_wilson_interval_of_the_textbook():
    low, high = wilson_interval(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10)])
def test_wilson_interval_stays_within_zero_and_one(successes, trials):
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 3), (4, 3)])
def test_an_impossible_share_is_refused(successes, trials):
    with pytest.raises(ValueError, match="successes <= trials"):
        wilson_interval(successes, trials)


def test_windows_leave_out_the_unfinished_one():
    assert list(window_percentiles(range(25), 10, 1.0)) == [9, 19]


def test_stolen_time_is_read_from_the_cpu_line(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 2 3 4 5 6 7 250 0 0\n")
    assert stolen_s(stat) == pytest.approx(2.5, rel=0.01)
    stat.write_text("cpu  1 2\n")
    assert stolen_s(stat) == 0.0
