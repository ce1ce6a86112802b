"""Of which question an answer is, where messages carry no number. Questions at 10, 20, ... 90 ns."""

import pytest

from firmware_bridge.late import LateAnswers


@pytest.fixture
def late():
    answers = LateAnswers()
    for at_ns in range(10, 100, 10):
        answers.asked(at_ns)
    return answers


def test_without_a_missing_answer_it_is_the_last_question(late):
    assert late.earliest_ns(0) == 90
    assert LateAnswers().earliest_ns(0) == 0  # nothing was asked yet


def test_the_joint_that_owes_most_dates_all(late):
    late.missed(0, 500)
    late.missed(1, 500)
    late.missed(1, 500)
    late.missed(2, 500)
    assert late.earliest_ns(499) == 70


def test_what_is_owed_is_lost_at_its_time(late):
    late.missed(0, 500)
    late.missed(1, 501)
    late.missed(1, 501)
    assert (late.earliest_ns(499), late.owed) == (70, {0: (1, 500), 1: (2, 501)})
    assert (late.earliest_ns(500), late.owed) == (70, {1: (2, 501)})
    assert (late.earliest_ns(501), late.owed) == (90, {})


def test_a_later_miss_keeps_all_that_is_owed_for_as_long_as_itself(late):
    late.missed(0, 500)
    late.missed(0, 600)
    assert late.owed == {0: (2, 600)}


def test_each_second_answer_repays_one_and_none_is_taken_from_a_joint_that_owes_nothing(late):
    late.missed(0, 500)
    late.missed(0, 500)
    assert not late.repaid(1)
    assert (late.repaid(0), late.owed) == (True, {0: (1, 500)})
    assert (late.repaid(0), late.owed) == (True, {})
    assert not late.repaid(0)


def test_a_joint_owes_no_more_than_the_seven_questions_before_the_last(late):
    for _ in range(20):
        late.missed(0, 500)
    assert late.earliest_ns(0) == 20
    assert [late.repaid(0) for _ in range(8)] == [True] * 7 + [False]
