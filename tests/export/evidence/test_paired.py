"""Paired success statistics against published tables, hand calculations and simulation."""

import math

import numpy as np
import pytest

from export.evidence import paired
from export.evidence.paired import Design, PairCounts


def test_pairs_are_counted_into_the_four_cells():
    reference = [True, True, True, False, False]
    candidate = [True, False, False, True, False]
    assert paired.count_pairs(reference, candidate) == PairCounts(1, 2, 1, 1)


def test_series_of_different_length_are_refused():
    with pytest.raises(ValueError, match="same seeds"):
        paired.count_pairs([True, False], [True])


def test_mcnemar_exact_by_hand():
    # 1 against 6 discordant pairs: 2 * (C(7,0) + C(7,1)) / 2^7 = 16 / 128
    assert paired.mcnemar_exact(PairCounts(40, 1, 6, 3)) == 0.125
    assert paired.mcnemar_exact(PairCounts(40, 3, 3, 0)) == 1.0
    assert paired.mcnemar_exact(PairCounts(40, 0, 0, 0)) == 1.0


def test_mcnemar_exact_does_not_overflow_at_thousands_of_pairs():
    assert 0 < paired.mcnemar_exact(PairCounts(0, 900, 1100, 0)) < 1e-4


def test_loss_interval_without_discordant_pairs_by_hand():
    # b = c = 0: the score is n d / sqrt(n d (1 - d)) = z, so d = z^2 / (n + z^2); z = 1.6449
    z2 = 1.6448536**2
    assert paired.loss_upper_bound(PairCounts(120, 0, 0, 0)) == pytest.approx(z2 / (120 + z2), abs=1e-7)


def test_loss_interval_of_tangos_contact_lens_example():
    # Tango 1998: n = 44, discordant 0 and 1, 90 % score interval (-0.096, 0.037)
    low, high = paired.loss_interval(PairCounts(43, 0, 1, 0), confidence=0.90)
    assert (round(low, 3), round(high, 3)) == (-0.096, 0.037)


def test_the_score_uses_the_constrained_maximum_likelihood_estimate():
    """Independent check: maximise the likelihood under 'loss = 0.03' on a grid and rebuild the statistic."""
    b, c, n, loss = 9, 4, 120, 0.03
    q = np.linspace(1e-6, (1 - loss) / 2 - 1e-6, 2_000_001)  # share of pairs only the candidate wins
    likelihood = b * np.log(q + loss) + c * np.log(q) + (n - b - c) * np.log1p(-2 * q - loss)
    best = q[likelihood.argmax()]
    by_hand = (n * loss - (b - c)) / math.sqrt(n * (2 * best + loss - loss**2))
    assert float(paired.loss_z(b, c, n, loss)) == pytest.approx(by_hand, abs=1e-5)


def test_interval_is_mirrored_when_the_policies_change_places():
    low, high = paired.loss_interval(PairCounts(100, 9, 3, 8))
    assert paired.loss_interval(PairCounts(100, 3, 9, 8)) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(("rare", "loss"), [(0.02, 0.0), (0.02, 0.05), (0.05, 0.0)])
def test_upper_bound_covers_the_true_loss_at_the_demo_size(rare, loss):
    """120 pairs: the bound lies above the true loss in 95 % of experiments, 1.5 points off at most."""
    draws = np.random.default_rng(1).multinomial(120, [rare + loss, rare, 1 - 2 * rare - loss], size=40_000)
    z = paired.loss_z(draws[:, 0], draws[:, 1], 120, loss)
    assert 0.935 <= (z < 1.6448536).mean() <= 0.99  # the bound lies above the truth <=> z(truth) < 1.645


def test_pairs_needed_matches_the_planning_table():
    # ../shared/facts.md section 7: 4 % discordance needs 619 pairs for 2 points (alpha 0.05, power 0.8)
    assert paired.pairs_needed(0.04, 0.02) == 619


def test_boundaries_give_the_published_values():
    # Lan-DeMets with O'Brien-Fleming spending, alpha 0.025 a side, 4 and 5 equal looks (Reboussin 2000)
    four = paired.sequential_boundaries([0.25, 0.5, 0.75, 1.0], 0.025)
    five = paired.sequential_boundaries([0.2, 0.4, 0.6, 0.8, 1.0], 0.025)
    assert four == pytest.approx((4.3326, 2.9631, 2.3590, 2.0141), abs=1e-4)
    assert five == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4)


def test_one_look_is_the_plain_test():
    assert paired.sequential_boundaries([1.0], 0.05) == pytest.approx((1.64485,), abs=1e-4)


def test_all_alpha_is_spent_at_the_last_look():
    assert paired.obrien_fleming_spending(1.0, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("rare", [0.0, 0.01, 0.03, 0.06, 0.10])
def test_type_one_error_holds_when_the_loss_is_just_the_margin(rare):
    """20,000 experiments of up to 1,000 pairs, true loss 3 points: at most 5 % (+ 3 sigma) called fine."""
    assert _share_called_non_inferior(rare, loss=0.03) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 20_000)


def test_power_is_had_when_there_is_no_loss():
    assert _share_called_non_inferior(rare=0.02, loss=0.0) > 0.95


def test_stopping_at_every_look_with_the_plain_bound_would_break_the_error():
    """The reason for the boundaries: 1.645 at each of the four looks calls far more than 5 % fine."""
    assert _share_called_non_inferior(rare=0.03, loss=0.03, boundaries=[1.645] * 4) > 0.09


def _share_called_non_inferior(rare, loss, boundaries=None, trials=20_000):
    design = Design()
    cells = [rare + loss, rare, 1 - 2 * rare - loss]
    steps = np.random.default_rng(7).multinomial(250, cells, size=(trials, 4))
    total = steps.cumsum(axis=1)
    z = paired.loss_z(total[..., 0], total[..., 1], np.array(design.looks), design.margin)
    return (z >= np.array(boundaries or design.boundaries)).any(axis=1).mean()


def test_a_clear_case_stops_at_the_second_look():
    looks = [PairCounts(235, 6, 6, 3), PairCounts(475, 10, 10, 5)]
    verdict = paired.sequential_verdict(Design(), looks)
    assert verdict.decision == "non-inferior"
    assert [look.non_inferior for look in verdict.looks] == [False, True]
    assert verdict.looks[-1].upper_bound < 0.03
    assert verdict.next_look is None


def test_an_undecided_case_names_the_next_look():
    verdict = paired.sequential_verdict(Design(), [PairCounts(235, 9, 4, 2)])
    assert (verdict.decision, verdict.next_look) == ("continue", 500)
    assert verdict.looks[0].upper_bound > 0.03


def test_all_looks_without_a_crossing_is_not_shown():
    counts = [PairCounts(n - 12 * n // 100, 8 * n // 100, 4 * n // 100, 0) for n in (250, 500, 750, 1000)]
    assert paired.sequential_verdict(Design(), counts).decision == "not shown"


def test_a_look_at_another_number_of_pairs_is_refused():
    with pytest.raises(ValueError, match="looks cannot be moved"):
        paired.sequential_verdict(Design(), [PairCounts(200, 0, 0, 0)])


@pytest.mark.parametrize("bad", [{"looks": (500, 250)}, {"looks": ()}, {"margin": 0.0}, {"alpha": 0.6}])
def test_a_design_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match="sequential design"):
        Design(**bad)


def test_the_repeated_bound_and_the_boundary_agree():
    """Non-inferior at a look exactly when the repeated upper bound lies under the margin."""
    for lost in range(8, 30):
        counts = PairCounts(500 - lost - 8, lost, 8, 0)
        look = paired.sequential_verdict(Design(looks=(500,)), [counts]).looks[0]
        assert look.non_inferior == (look.upper_bound <= 0.03)


def test_a_comparison_says_it_all_in_plain_numbers():
    said = paired.compare([True] * 90 + [False] * 10, [True] * 88 + [False] * 12).as_dict()
    assert (said["pairs"], said["only_reference"], said["only_candidate"]) == (100, 2, 0)
    assert said["loss"] == pytest.approx(0.02)
    assert said["loss_low95"] < said["loss"] < said["loss_upper95"] < said["loss_high95"]
