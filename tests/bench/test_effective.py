"""How many independent samples a correlated sequence is worth."""

import numpy as np
import pytest

from bench.effective import autocorrelation_time, effective_samples, share_bound

RNG = np.random.default_rng(3)


def test_independent_samples_are_worth_themselves():
    assert effective_samples(RNG.standard_normal(20_000)) == pytest.approx(20_000, rel=0.1)


def test_an_autoregressive_sequence_has_its_known_time():
    # x' = 0.8 x + noise: (1 + 0.8) / (1 - 0.8) = 9
    noise, x = RNG.standard_normal(100_000), np.zeros(100_000)
    for i in range(1, len(x)):
        x[i] = 0.8 * x[i - 1] + noise[i]
    assert autocorrelation_time(x) == pytest.approx(9, rel=0.15)


def test_stalls_that_come_in_bursts_count_as_fewer():
    calm = RNG.standard_normal(20_000)
    bursts = calm.copy()
    bursts[5000:5200] += 100  # the worst hundredth, all in one place
    assert effective_samples(bursts) < 0.05 * effective_samples(calm)


def test_a_constant_correlates_with_nothing():
    assert effective_samples(np.full(100, 7.0)) == 100


def test_nothing_is_worth_nothing():
    assert effective_samples([]) == 0


def test_460515_ticks_without_an_event_bound_the_share_at_1e_5():
    assert share_bound(0, 460_515) == pytest.approx(1e-5, rel=1e-4)
    assert share_bound(1, 460_515) is None
