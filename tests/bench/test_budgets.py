"""Budgets: what is within, what is broken, and that a missing number is never within."""

import pytest

from bench.budgets import Budget, check_budgets, load_budgets
from edgevla.errors import BadInput


def _verdict(report, **changes):
    fields = {"name": "b", "key": "a.b", "sense": "at_most", "limit": 2.0, "unit": "ms", **changes}
    return check_budgets(report, (Budget(**fields),))[0]


@pytest.mark.parametrize(("value", "kept"), [(1.9, True), (2.0, True), (2.1, False)])
def test_at_most_includes_the_limit(value, kept):
    assert _verdict({"a": {"b": value}}).kept is kept


def test_at_least_turns_it_round():
    assert _verdict({"a": {"b": 1.9}}, sense="at_least").kept is False


def test_a_ratio_divides_two_numbers_of_the_report():
    verdict = _verdict({"a": {"b": 6.0, "c": 2.0}}, over="a.c", sense="at_least")
    assert (verdict.value, verdict.kept) == (3.0, True)


@pytest.mark.parametrize("report", [{}, {"a": {}}, {"a": {"b": None}}, {"a": {"b": float("nan")}}, {"a": {"b": "1"}}])
def test_a_missing_number_is_neither_kept_nor_broken(report):
    verdict = _verdict(report)
    assert (verdict.value, verdict.kept) == (None, None)


def test_division_by_zero_is_missing():
    assert _verdict({"a": {"b": 1.0, "c": 0.0}}, over="a.c").kept is None


def test_the_budgets_of_the_demo_are_those_of_the_issue():
    limits = {b.name: b.limit for b in load_budgets()}
    assert limits["int8 chunk, p50"] == 2.0
    assert limits["int8 over the teacher's eager forward"] == 20.0
    assert limits["Loss of success, upper 95 % bound"] == 0.08
    assert limits["Late commands"] == 0


def test_a_budget_file_with_an_unknown_sense_is_refused(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text('[[budget]]\nname = "x"\nkey = "a"\nsense = "about"\nlimit = 1\nunit = "s"\n')
    with pytest.raises(BadInput, match="sense"):
        load_budgets(bad)
