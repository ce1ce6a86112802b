"""Teacher answers: the same whoever asks, whole or not there, joined to an earlier plan where no prefix is known."""

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput
from export.distill import targets as targets_module
from export.distill.feed import Feed, teacher_feed
from export.distill.source import DemoSource
from export.distill.targets import (
    TargetPlan,
    Targets,
    answer,
    join_plans,
    make_targets,
    open_cache,
    planned_keys,
    questions,
    shift_rows,
)
from export.students.interface import Feeding
from export.teachers.ours import FlowPolicy

NOISE = torch.from_numpy(np.random.default_rng(5).standard_normal((32, 4)).astype(np.float32))
PLAN = TargetPlan(2, 5, NOISE, d_max=8)
EACH = 64  # questions a part, instead of 512


@pytest.fixture(scope="module")
def policy(teacher):
    return FlowPolicy(teacher)


@pytest.fixture(scope="module")
def source(policy, counting):
    return DemoSource(counting, (policy.spec.state_stats.offset, policy.spec.state_stats.scale), 16)


@pytest.fixture(scope="module")
def made(policy, source, tmp_path_factory):
    """Both parts of a plan, asked in the wrong order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "__defaults__", (EACH,))
        patch.setattr(targets_module, "BATCH", 32)
        cache = open_cache(tmp_path_factory.mktemp("targets"), policy, source, PLAN)
        feed = teacher_feed(policy, source.sentences, source.present)
        asked = [make_targets(policy, feed, source, PLAN, number, cache) for number in (1, 0)]
        again = [make_targets(policy, feed, source, PLAN, number, cache) for number in (1, 0)]
        rows = cache.rows(planned_keys(source, PLAN, True))
    return rows, asked, again


@pytest.fixture(scope="module")
def all_rows(made):
    return made[0].take(range(len(made[0])))


def student_feed(policy, source):
    return Feed(
        Feeding(policy.spec.cameras, words=policy.vocabulary.words, max_tokens=16), source.sentences, source.present
    )


def test_nothing_is_asked_twice(made):
    assert made[1] == [EACH, EACH]
    assert made[2] == [0, 0]


def test_questions_are_the_same_in_whatever_order_and_process_they_are_asked(source):
    one, two, other = (questions(source, PLAN, number, True, EACH) for number in (0, 0, 1))
    assert all((one[name] == two[name]).all() for name in one)
    assert (one["noise"] != other["noise"]).any()


def test_half_of_the_examples_start_from_the_noise_of_the_bundle(all_rows):
    noise = all_rows["noise"]
    fixed = (noise == NOISE).all((1, 2)).float().mean()
    assert 0.35 < fixed < 0.65  # 128 examples: 3 sigma is 0.13
    assert noise[~(noise == NOISE).all((1, 2))].std() == pytest.approx(1.0, abs=0.1)


def test_the_endpoint_is_where_the_teacher_s_flow_ends_and_keeps_the_prefix(all_rows, policy, source):
    rows = all_rows
    kept = rows["mask"].expand(-1, -1, 4) > 0
    assert (rows["endpoint"][kept] == rows["prefix"][kept]).all()
    assert (rows["prefix"][~kept] == 0).all()
    inputs = student_feed(policy, source)(source.pictures(rows["seen"].numpy()), rows["state"], rows["sentence"])
    with torch.inference_mode():
        expected = policy(inputs, rows["noise"], rows["prefix"], rows["mask"])
    error = (rows["endpoint"] - expected)[~kept].square().mean().sqrt() / expected[~kept].square().mean().sqrt()
    assert error < 0.02  # bf16 autocast against float32
    with torch.inference_mode():
        features = policy.features(policy.encode(inputs))
    assert rows["features"].dtype == torch.float16
    assert (rows["features"] - features).abs().max() < 0.1  # bf16 autocast, numbers around one


def test_the_state_is_normalised_as_the_teacher_was_trained_and_not_by_the_dataset(all_rows, teacher, counting):
    raw = all_rows["state"].numpy() * teacher.state_std + teacher.state_mean
    np.testing.assert_allclose(raw, np.round(raw), atol=1e-3)  # states of the counting dataset are whole numbers
    assert set(np.round(raw[:, 0]).astype(int)) <= set(range(len(counting)))


def test_batches_bring_the_image_of_their_own_row(made, all_rows, policy, source, counting):
    targets = Targets(made[0], source, student_feed(policy, source), 16, 3)
    batch = targets.next()
    for i in range(16):
        frame = ((batch["image"][i, 0, 0, 0, 0] + 1) * 127.5).round()  # pixels of the counting dataset are the frame
        mine = (all_rows["endpoint"] == batch["endpoint"][i]).all((1, 2))
        assert mine.any()
        assert frame in counting.frame[all_rows["seen"][mine].numpy()]


def test_two_processes_draw_what_one_with_both_batches_draws(made, policy, source):
    feed = student_feed(policy, source)
    whole = Targets(made[0], source, feed, 8, 3)
    parts = [Targets(made[0], source, feed, 4, 3, (rank, 2)) for rank in (0, 1)]
    for _ in range(3):
        one, (a, b) = whole.next(), [part.next() for part in parts]
        assert torch.equal(one["noise"][0::2], a["noise"])
        assert torch.equal(one["noise"][1::2], b["noise"])


def test_a_resumed_run_draws_what_an_unbroken_one_draws(made, policy, source):
    feed = student_feed(policy, source)
    unbroken, resumed = Targets(made[0], source, feed, 8, 3), Targets(made[0], source, feed, 8, 3, step=2)
    unbroken.next(), unbroken.next()
    assert torch.equal(unbroken.next()["state"], resumed.next()["state"])


def test_targets_of_another_teacher_are_refused_by_name(made, policy, source, tmp_path):
    open_cache(tmp_path, policy, source, PLAN)
    make_targets_once(policy, source, tmp_path)
    other = FlowPolicy(policy.teacher)
    other.sha256 = "f" * 64
    with pytest.raises(BadInput, match="teacher differ"):
        open_cache(tmp_path, other, source, PLAN)


def make_targets_once(policy, source, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "__defaults__", (4,))
        feed = teacher_feed(policy, source.sentences, source.present)
        make_targets(policy, feed, source, PLAN, 0, open_cache(folder, policy, source, PLAN))


def test_rows_of_an_earlier_plan_move_up_and_its_last_one_stays():
    chunk = torch.arange(5.0)[None, :, None].repeat(2, 1, 1)
    moved = shift_rows(chunk, torch.tensor([0, 3]))[..., 0]
    assert moved.tolist() == [[0, 1, 2, 3, 4], [3, 4, 4, 4, 4]]


def test_plans_are_joined_by_even_steps_behind_the_prefix():
    """Prefix of 2 rows from a plan of ones; behind it 3/4, 2/4, 1/4 of it, then the fresh plan of zeros."""
    fresh, committed = torch.zeros(1, 7, 1), torch.ones(1, 7, 1)
    joined = join_plans(fresh, committed, torch.tensor([2]), 3)
    assert joined[0, :, 0].tolist() == [1, 1, 0.75, 0.5, 0.25, 0, 0]


class Unprefixed(FlowPolicy):
    """The reference policy as one that was trained without a prefix."""

    def __init__(self, teacher):
        super().__init__(teacher)
        from dataclasses import replace

        self.spec = replace(self.spec, d_max=0)


def test_a_teacher_without_prefix_gives_the_head_of_its_own_chunk_or_of_an_earlier_one(teacher, source):
    policy = Unprefixed(teacher)
    feed = teacher_feed(policy, source.sentences, source.present)
    rows = questions(source, PLAN, 0, False, EACH)
    deep = rows["depth"] > 0
    assert (rows["back"][~deep] == 0).all()
    assert (rows["back"][rows["back"] > 0] >= rows["depth"][rows["back"] > 0]).all()
    assert 0.25 < (rows["back"] > 0)[deep].mean() < 0.75
    found = answer(policy, feed, source, PLAN, rows)
    none = torch.zeros_like(found["prefix"])
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        inputs = feed(source.pictures(rows["seen"]), rows["state"], rows["sentence"])
        fresh = policy.decode(policy.encode(inputs), found["noise"], none, none[..., :1]).float()
    own = torch.from_numpy(rows["back"] == 0)
    assert torch.allclose(found["endpoint"][own], fresh[own], atol=0.05)
    _, moved = source.before(rows, rows["back"])
    joined = torch.from_numpy((rows["back"] > 0) & (moved >= rows["depth"]) & (moved > 0))
    assert joined.sum() > 5
    assert ((found["endpoint"] - fresh)[joined].abs().amax((1, 2)) > 0.01).all()
    kept = found["mask"].expand(-1, -1, 4) > 0
    assert (found["prefix"][kept] == found["endpoint"][kept]).all()
