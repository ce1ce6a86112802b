"""Ladders, fronts and groups on invented layers."""

import pytest

from export.search.front import (
    Candidate,
    Weighed,
    candidates,
    estimated_us,
    ladders,
    names_of,
    not_dominated,
    rungs,
    shortlist,
    thinned,
)
from export.search.layers import Layer, grouped
from export.search.plan import LADDER_RUNS, Plan, plan


def layer(node, stage="head"):
    return Layer(stage, node, node, "MatMul", 8, 320, 320)


def weighed(node, saved_us, alone, relief=None):
    return Weighed((layer(node),), saved_us, alone, relief)


def keys(*nodes):
    return frozenset(("head", node) for node in nodes)


A = weighed("a", 100.0, 0.5)  # 0.005 of the budget per us
B = weighed("b", 10.0, 0.4)  # 0.04
C = weighed("c", 50.0, 0.1)  # 0.002


def test_the_dearest_layer_per_microsecond_leaves_int8_first():
    assert ladders([A, B, C]) == [keys(), keys("b"), keys("a", "b")]


def test_a_layer_that_saves_nothing_leaves_before_all_others():
    assert ladders([A, weighed("slow", -3.0, 0.001)])[1] == keys("slow")


def test_where_errors_mask_each_other_both_ladders_are_walked():
    masked = [weighed("a", 10.0, 0.5, relief=0.0), weighed("b", 10.0, 0.1, relief=0.4)]
    assert ladders(masked) == [keys(), keys("b"), keys("a")]


def test_ladders_without_layers_hold_the_whole_only():
    assert ladders([]) == []


@pytest.mark.parametrize(
    ("count", "steps"), [(0, []), (1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3, 5, 8])]
)
def test_rungs_get_wider(count, steps):
    assert rungs(count) == steps


def test_every_kind_has_its_candidates():
    found = candidates([A, B, C], ("dynamic-s8", "static-qdq", "fp16", "fp32"))
    assert [c.kind for c in found] == ["dynamic-s8"] * 3 + ["static-qdq"] * 3 + ["fp16", "fp32"]
    assert found[-1] == Candidate("fp32")


def test_a_candidate_knows_what_stays_float_in_each_stage():
    candidate = Candidate("dynamic-s8", frozenset({("vision", "a"), ("head", "b")}))
    assert candidate.keep_in("vision") == {"a"}
    assert candidate.keep_in("text") == frozenset()


def test_only_points_that_no_other_beats_are_on_the_front():
    points = {"fast": (1.0, 0.9), "worse": (1.5, 0.95), "good": (2.0, 0.3), "tie": (2.0, 0.3), "float": (9.0, 0.0)}
    assert not_dominated(points) == ["fast", "good", "float"]


def test_the_shortlist_times_the_front_of_the_ladder_and_one_of_each_other_kind():
    saved = {("head", "a"): 100.0, ("head", "b"): 10.0}
    whole, less_b, less_a = (Candidate("dynamic-s8", k) for k in (keys(), keys("b"), keys("a")))
    static, static_b = Candidate("static-qdq"), Candidate("static-qdq", keys("b"))
    judged = {whole: 0.9, less_b: 0.5, less_a: 0.6, static: 2.0, static_b: 1.5, Candidate("fp32"): 0.0}
    assert shortlist(judged, saved, most=5) == [whole, less_b, static_b, Candidate("fp32")]
    assert estimated_us(less_a, saved) == 100.0


@pytest.mark.parametrize(("most", "kept"), [(9, "abcdefg"), (3, "adg"), (2, "ag"), (1, "a")])
def test_thinning_keeps_both_ends(most, kept):
    assert thinned("abcdefg", most) == list(kept)


def test_candidates_with_as_many_float_layers_have_different_names():
    found = [Candidate("dynamic-s8"), Candidate("dynamic-s8", keys("a")), Candidate("dynamic-s8", keys("b"))]
    assert list(names_of(found).values()) == ["dynamic-s8", "dynamic-s8, 1 in float", "dynamic-s8, 1 in float (b)"]


def sizes(groups):
    return [(group[0].stage, len(group)) for group in groups]


SEVEN = [layer(f"v{i}", "vision") for i in range(3)] + [layer(f"h{i}") for i in range(4)]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (7, [("vision", 1)] * 3 + [("head", 1)] * 4),
        (4, [("vision", 2), ("vision", 1), ("head", 2), ("head", 2)]),
        (2, [("vision", 3), ("head", 4)]),
        (1, [("vision", 3), ("head", 4)]),  # a group stays in its stage
    ],
)
def test_neighbours_are_judged_together_where_time_is_short(most, expected):
    assert sizes(grouped(SEVEN, most)) == expected


def test_without_a_budget_every_layer_is_judged_both_ways():
    assert plan(19, 100.0, None) == Plan(19, True)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [(40, Plan(20, True)), (39, Plan(20, False)), (20, Plan(20, False)), (7, Plan(7, False)), (-5, Plan(2, False))],
)
def test_the_plan_fits_the_budget(runs, expected):
    assert plan(20, 0.7, float(runs + LADDER_RUNS) + 0.01) == expected


def test_a_plan_never_asks_for_more_groups_than_layers():
    assert plan(1, 1.0, 1.0) == Plan(1, False)
