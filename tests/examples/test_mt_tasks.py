"""The words of MT10 and MT50, and how hard their tasks are said to be."""

from collections import Counter

import pytest

from edgevla.policy.tokens import Vocabulary
from edgevla.sim.names import ALL_TASKS
from examples.metaworld.instructions import WORDINGS
from examples.metaworld.mt.tasks import SETS, tasks, vocabulary, words

LONGEST = 12  # words


def test_the_sets_are_those_of_metaworld_in_its_order():
    from metaworld.env_dict import MT10_V3

    assert [task.name for task in tasks("mt10")] == list(MT10_V3)
    assert tuple(task.name for task in tasks("mt50")) == ALL_TASKS


def test_as_many_tasks_of_each_difficulty_as_published():
    """28 easy, 11 medium, 6 hard, 5 very hard: Seo et al. 2022, Masked World Models, appendix F."""
    counts = Counter(task.difficulty for task in tasks("mt50"))
    assert counts == {"easy": 28, "medium": 11, "hard": 6, "very hard": 5}
    of = {task.name: task.difficulty for task in tasks("mt50")}
    assert (of["reach-v3"], of["peg-insert-side-v3"]) == ("easy", "medium")
    assert (of["push-v3"], of["stick-pull-v3"]) == ("hard", "very hard")


@pytest.mark.parametrize("which", SETS)
def test_every_word_of_a_held_out_sentence_occurs_in_training_of_the_same_set(which):
    trained = {word for task in tasks(which) for sentence in task.train for word in sentence.split()}
    assert sorted(trained) == vocabulary(which)


def test_no_sentence_means_two_tasks_or_is_both_trained_on_and_held_out():
    told = [sentence for task in tasks("mt50") for sentence in task.train + task.held_out]
    assert [sentence for sentence, count in Counter(told).items() if count > 1] == []


@pytest.mark.parametrize("which", SETS)
def test_every_task_has_sentences_that_fit_the_policy(which):
    heard = Vocabulary(tuple(vocabulary(which)), LONGEST)
    for task in tasks(which):
        assert len(task.train) >= 3
        assert len(task.held_out) >= 1
        for sentence in task.train + task.held_out:
            ids = heard.encode(sentence)
            assert [heard.words[i - 1] for i in ids if i] == sentence.split()


def test_the_reference_tasks_keep_their_sentences():
    told = words("mt50")
    assert all(told[name] == {"train": said.train, "held_out": said.held_out} for name, said in WORDINGS.items())
