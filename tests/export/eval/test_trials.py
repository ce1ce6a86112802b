"""Who runs in which trial, and when the answers decide."""

import pytest

from export.eval.trials import (
    BLOCK_PAIRS,
    HOPELESS,
    ROLES,
    Declaration,
    decision_of,
    flags_of,
    hopeless,
    progress_of,
    role_of,
    verdict_of,
)
from export.evidence.paired import Design, PairCounts, sequential_verdict

DESIGN = Design(margin=0.5, alpha=0.05, looks=(2, 4))


def declared(design=DESIGN, seed="s"):
    return Declaration(seed, ("a" * 64, "b" * 64), "run {bundle}", design)


def answered(seed, reference, candidate):
    """Answers that give each policy these successes, pair by pair."""
    said = {"reference": iter(reference), "candidate": iter(candidate)}
    return {trial: next(said[role_of(seed, trial)]) for trial in range(1, 2 * len(reference) + 1)}


@pytest.mark.parametrize("seed", ["", "1", "another"])
def test_every_pair_has_both_policies_and_every_block_each_first_in_half_of_its_pairs(seed):
    for block in range(20):
        firsts = []
        for pair in range(block * BLOCK_PAIRS, (block + 1) * BLOCK_PAIRS):
            roles = [role_of(seed, 2 * pair + 1), role_of(seed, 2 * pair + 2)]
            assert sorted(roles) == sorted(ROLES)
            firsts.append(roles[0])
        assert firsts.count("candidate") == BLOCK_PAIRS // 2


def test_the_order_differs_between_seeds_and_blocks_and_never_for_one_seed():
    orders = {seed: tuple(role_of(str(seed), trial) for trial in range(1, 41)) for seed in range(50)}
    assert len(set(orders.values())) == 50
    assert orders[7] == tuple(role_of("7", trial) for trial in range(1, 41))
    blocks = [orders[3][i : i + 2 * BLOCK_PAIRS] for i in range(0, 40, 2 * BLOCK_PAIRS)]
    assert len(set(blocks)) > 1


def test_the_order_of_a_seed_is_the_same_on_every_machine():
    """Resuming elsewhere, or with a later version, goes on with the same order: pinned when it was first drawn."""
    said = "".join(role_of("2026", trial)[0] for trial in range(1, 17))
    assert said == "rccrcrrcrccrcrrc"


def test_answers_reach_the_policy_that_ran():
    answers = answered("s", [True, False, True, True], [False, False, True, True])
    assert flags_of("s", answers, 4) == ([True, False, True, True], [False, False, True, True])
    assert flags_of("s", answers, 2) == ([True, False], [False, False])


def event(kind, trial, **more):
    return {"event": kind, "trial": trial, **more}


def test_a_void_trial_is_run_again_and_counted():
    state = progress_of(
        [
            event("start", 1), event("end", 1), event("answer", 1, answer="void"),
            event("start", 1), event("end", 1), event("answer", 1, answer="n"),
        ]
    )  # fmt: skip
    assert (state.answers, state.voids, state.attempts) == ({1: False}, {1: 1}, {1: 2})
    assert state.next_trial == 2


def test_a_trial_killed_while_it_ran_is_run_again_and_one_killed_before_its_answer_is_asked_about():
    assert progress_of([event("start", 1)]).unanswered is None
    assert progress_of([event("start", 1), event("end", 1)]).unanswered == 1
    assert progress_of([event("start", 1), event("end", 1), event("start", 1)]).unanswered is None


@pytest.mark.parametrize(
    "events",
    [[event("answer", 2, answer="y")], [event("answer", 1, answer="maybe")], [event("dance", 1)]],
)
def test_a_journal_that_makes_no_sense_is_refused(events):
    with pytest.raises(ValueError, match=r"trial|event"):
        progress_of(events)


def test_nothing_is_decided_between_the_looks():
    always = answered("s", [True] * 4, [True] * 4)
    assert verdict_of(declared(), {t: always[t] for t in (1, 2, 3)}) is None
    assert decision_of(declared(), {t: always[t] for t in range(1, 8)}) == "continue"
    assert decision_of(declared(), always) == "non-inferior"


def test_a_candidate_that_loses_every_pair_is_given_up_at_the_first_look():
    assert decision_of(declared(), answered("s", [True] * 2, [False] * 2)) == HOPELESS


def test_all_looks_without_a_crossing_is_not_shown():
    answers = answered("s", [True, True, True, False], [True, True, False, False])
    assert decision_of(declared(), answers) in ("not shown", HOPELESS)
    design = Design(margin=0.05, looks=(4,))
    assert decision_of(declared(design), answers) == "not shown"


def test_giving_up_never_changes_the_verdict():
    """Every table at the first look: given up exactly when no continuation could cross a later boundary."""
    design = Design(margin=0.3, alpha=0.05, looks=(6, 12))
    for lost in range(7):
        for won in range(7 - lost):
            first = PairCounts(6 - lost - won, lost, won, 0)
            ends = [
                sequential_verdict(design, [first, _later(first, a, b)]).decision
                for a in range(7)
                for b in range(7 - a)
            ]
            reachable = "non-inferior" in ends
            if sequential_verdict(design, [first]).decision == "continue":
                assert hopeless(design, first) == (not reachable), first


def _later(first, lost, won):
    both = 12 - first.only_reference - lost - first.only_candidate - won
    return PairCounts(both, first.only_reference + lost, first.only_candidate + won, 0)
