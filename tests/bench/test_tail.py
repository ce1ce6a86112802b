"""bench/tail: the fit finds distributions that it should find, and says when it does not fit."""

import math

import numpy as np
import pytest

from bench.tail import LEAST, SHARE, anderson_darling, fit_tail, moments

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_moments_find_shape_and_scale(shape):
    uniform = RNG.uniform(size=(1, 200_000))
    drawn = -2 * np.log(uniform) if shape == 0 else 2 / shape * (uniform**-shape - 1)
    found, scale = moments(np.sort(drawn, axis=1))
    assert found[0] == pytest.approx(shape, abs=0.03)
    assert scale[0] == pytest.approx(2, rel=0.05)


def test_an_exponential_tail_is_continued_where_it_goes():
    fit = fit_tail(RNG.exponential(1.0, 20_000))
    assert fit.quantile(0.9999) == pytest.approx(-math.log(1e-4), rel=0.15)
    assert fit.p_value > 0.01


def test_a_mixture_does_not_fit_and_says_so():
    fit = fit_tail(np.concatenate([RNG.normal(size=4000), 50 + RNG.uniform(size=100)]))
    assert fit.p_value < 0.02


def test_p_values_of_data_that_fit_are_spread_out():
    found = [fit_tail(RNG.exponential(size=2000), seed).p_value for seed in range(40)]
    assert 0.25 < np.mean(found) < 0.75
    assert sum(p < 0.05 for p in found) <= 7  # 2 expected; 8 or more: one chance in 1,500


@pytest.mark.parametrize("samples", [np.ones(5000), np.arange(LEAST / SHARE - 1)])
def test_nothing_is_fitted_to_too_few_or_to_one_value(samples):
    assert fit_tail(samples) is None


def test_the_statistic_of_perfect_ranks_is_small_and_of_others_large():
    ranks = (np.arange(1, 201) - 0.5) / 200
    perfect = -np.log1p(-ranks)[None]
    assert anderson_darling(perfect, 1e-12, 1.0)[0] < 0.1
    assert anderson_darling(perfect, 1e-12, 3.0)[0] > 10
