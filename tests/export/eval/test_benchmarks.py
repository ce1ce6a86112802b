"""Counts of public benchmarks, on sequences worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgevla.errors import BadInput
from export.eval.benchmarks.agreement import pearson, rank_violation, setting_success
from export.eval.benchmarks.chains import Chain, chain_score

NAMES = ("open", "push", "lift", "place", "close")


def test_chains_by_hand():
    other = ("push", "open", "lift", "place", "close")
    score = chain_score([Chain(NAMES, 5), Chain(NAMES, 0), Chain(NAMES, 2), Chain(other, 1)])
    assert score.average_length == 2.0
    assert score.in_a_row == (0.75, 0.5, 0.25, 0.25, 0.25)
    assert sum(score.in_a_row) == score.average_length
    # "open" was tried in all four (second in the last, where it failed), done in two
    assert score.subtasks["open"] == (2, 4)
    assert score.subtasks["lift"] == (1, 2)
    assert score.subtasks["close"] == (1, 1)
    low, high = score.average_length_ci
    assert 0 <= low < 2 < high <= 5


def test_all_chains_alike_leave_no_doubt():
    score = chain_score([Chain(NAMES, 5)] * 10)
    assert score.average_length_ci == (5.0, 5.0)
    assert score.subtasks == dict.fromkeys(sorted(NAMES), (10, 10))


@pytest.mark.parametrize(("subtasks", "done"), [(NAMES[:4], 1), (NAMES, 6), (NAMES, -1)])
def test_what_is_no_chain_is_said(subtasks, done):
    with pytest.raises(BadInput, match="chain"):
        Chain(subtasks, done)


def test_no_chains_are_no_score():
    with pytest.raises(BadInput, match="none"):
        chain_score([])


def test_variants_weigh_alike():
    assert setting_success({"light": [True] * 10, "dark": [False, True]}) == 0.75
    with pytest.raises(BadInput, match="dark"):
        setting_success({"light": [True], "dark": []})
    with pytest.raises(BadInput, match="no variant"):
        setting_success({})


def test_rank_violation_by_hand():
    real = [0.9, 0.5, 0.1]
    assert rank_violation([0.8, 0.4, 0.2], real) == 0
    # the last two are swapped: each is 0.4 from the one it is ranked wrongly against
    assert rank_violation([0.8, 0.2, 0.4], real) == pytest.approx(0.8 / 3)


def test_pearson_by_hand():
    assert pearson([0, 1, 2], [1, 2, 3]) == 1.0
    assert pearson([0, 1, 2], [3, 2, 1]) == pytest.approx(-1)
    assert pearson([1, 1, 1], [1, 2, 3]) == 0.0
    rng = np.random.default_rng(0)
    x, y = rng.random(7), rng.random(7)
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    with pytest.raises(BadInput, match="same policies"):
        pearson([1.0], [1.0])
