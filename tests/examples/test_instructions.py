"""The words of the reference policy: what it is judged on was never said to it in training."""

import pytest

from edgevla.policy.tokens import Vocabulary
from edgevla.sim.metaworld import TASKS
from examples.metaworld.instructions import SHORT, WORDINGS, vocabulary

MAX_TOKENS = 16


def test_every_task_has_several_sentences_to_train_on_and_others_to_be_judged_on():
    assert set(WORDINGS) == set(TASKS)
    for wording in WORDINGS.values():
        assert len(wording.train) == len(set(wording.train)) >= 20
        assert len(wording.held_out) == len(set(wording.held_out)) >= 10


def test_no_held_out_sentence_is_ever_trained_on_for_any_task():
    trained = {sentence for wording in WORDINGS.values() for sentence in wording.train}
    held_out = {sentence for wording in WORDINGS.values() for sentence in wording.held_out}
    assert not trained & held_out


def test_every_word_of_a_held_out_sentence_occurs_in_training():
    trained = {word for wording in WORDINGS.values() for sentence in wording.train for word in sentence.split()}
    assert trained == set(vocabulary())


def test_no_sentence_means_two_tasks():
    told = [sentence for wording in WORDINGS.values() for sentence in wording.train + wording.held_out]
    assert len(told) == len(set(told))


def test_every_sentence_fits_the_policy():
    words = Vocabulary(tuple(vocabulary()), MAX_TOKENS)
    for wording in WORDINGS.values():
        for sentence in wording.train + wording.held_out:
            ids = words.encode(sentence)
            assert [words.words[i - 1] for i in ids if i] == sentence.split()


@pytest.mark.parametrize("task", TASKS)
def test_the_short_instruction_of_a_task_is_a_trained_one(task):
    assert SHORT[task] in WORDINGS[task].train
