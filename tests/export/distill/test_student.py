"""The one-pass student and what it is taught."""

import pytest
import torch

from export.distill.feed import Feed
from export.distill.losses import FEATURE_WEIGHT, DistilObjective, chunk_loss
from export.distill.source import DemoSource
from export.distill.start import Wish, make_student, whiten
from export.students.onepass import OnePassStudent, StudentConfig
from export.teachers.ours import FlowPolicy
from tests.export.tiny import tiny_teacher

SMALL = {"vocabulary": 30, "width": 32, "heads": 2}


def student(**changes):
    torch.manual_seed(0)
    return OnePassStudent(StudentConfig(**{**SMALL, **changes})).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    depth = torch.tensor([0, 2, 8])
    return {
        "image": torch.rand((3, 1, 96, 96, 3), generator=generator) * 2 - 1,
        "tokens": torch.randint(1, 30, (3, 16), generator=generator),
        "state": torch.randn((3, 4), generator=generator),
        "noise": torch.randn((3, 32, 4), generator=generator),
        "prefix": torch.randn((3, 32, 4), generator=generator),
        "mask": (torch.arange(32)[None] < depth[:, None]).float()[..., None],
        "endpoint": torch.randn((3, 32, 4), generator=generator),
        "actions": torch.randn((3, 32, 4), generator=generator),
        "valid": torch.ones((3, 32, 1)),
        "features": torch.randn((3, 38, 32), generator=generator),
    }


def answer(model, batch, **changes):
    inputs = {**batch, **changes}
    with torch.inference_mode():
        return model(inputs, inputs["noise"], inputs["prefix"], inputs["mask"])[0]


def objective(mode="distil"):
    return DistilObjective(student(), mode, (32, 32))


def test_prefix_rows_come_out_as_they_went_in(batch):
    chunk = answer(student(), batch)
    kept = batch["mask"].expand(-1, -1, 4) > 0
    assert chunk.shape == (3, 32, 4)
    assert (chunk[kept] == batch["prefix"][kept]).all()


def test_what_lies_past_the_prefix_in_its_buffer_does_not_matter(batch):
    junk = batch["prefix"] * batch["mask"] + 50 * (1 - batch["mask"])
    assert torch.allclose(answer(student(), batch), answer(student(), batch, prefix=junk), atol=1e-5)


def test_the_committed_actions_bear_on_the_rest_of_the_chunk(batch):
    other = answer(student(), batch, prefix=-batch["prefix"])[1:]
    free = batch["mask"][1:].expand(-1, -1, 4) == 0
    assert ((answer(student(), batch)[1:] - other)[free].abs() > 1e-4).any()


def test_another_noise_gives_another_chunk(batch):
    assert (answer(student(), batch) - answer(student(), batch, noise=-batch["noise"])).abs().max() > 1e-3


def test_without_z_the_noise_is_ignored(batch):
    model = student(noise_input=False)
    assert (answer(model, batch) == answer(model, batch, noise=-batch["noise"])).all()


@pytest.mark.parametrize("changed", ["image", "tokens", "state"])
def test_every_part_of_the_observation_bears_on_the_chunk(batch, changed):
    other = batch[changed].flip(0)
    assert (answer(student(), batch) - answer(student(), batch, **{changed: other})).abs().max() > 1e-4


def test_rows_of_a_batch_do_not_see_each_other(batch):
    alone = {key: value[1:2] for key, value in batch.items()}
    assert torch.allclose(answer(student(), batch)[1:2], answer(student(), alone), atol=1e-5)


def test_patches_are_the_squares_of_the_image():
    stem = student().stem
    image = torch.randn(1, 96, 96, 3)
    whole = stem(image)
    changed = image.clone()
    changed[0, 16:32, 80:96] += 1.0  # row 1, column 5 of six by six
    moved = (stem(changed) - whole).abs().sum(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == [1 * 6 + 5]


def test_the_loss_counts_only_rows_after_the_prefix(batch):
    taught = objective()
    with torch.inference_mode():
        first = taught(batch)
        spoilt = batch["endpoint"] + 100 * batch["mask"]
        assert taught({**batch, "endpoint": spoilt}) == first
        assert taught({**batch, "endpoint": -batch["endpoint"]}) != first


@torch.inference_mode()
def test_the_loss_is_worked_out_by_hand(batch):
    """Smooth L1 with beta 0.1 at distance 1 is 1 - 0.05; observation tokens 2 off add their share of 4."""
    model = student()
    text, body = model.encode_text(batch["tokens"]), model.state(batch["state"])[:, None]
    features = model.observe(model.encode_image(batch["image"]), text, body)
    taught = {**batch, "endpoint": answer(model, batch) + 1.0, "features": features}
    assert DistilObjective(model, "distil", (32, 32))(taught).item() == pytest.approx(0.95, abs=1e-5)
    taught["features"] = features + 2.0
    found = DistilObjective(model, "distil", (32, 32))(taught).item()
    assert found == pytest.approx(0.95 + 4 * FEATURE_WEIGHT, abs=1e-4)


@torch.inference_mode()
def test_rows_that_a_replan_normally_replaces_weigh_less(batch):
    """One wrong row of 32, no prefix: its weight over the sum of all, 16 of 1 and 16 of 0.3."""
    weights = objective().row_weight
    right = batch["endpoint"]
    for row, weight in ((0, 1.0), (15, 1.0), (16, 0.3), (31, 0.3)):
        wrong = right.clone()
        wrong[:, row] += 1.0
        loss = chunk_loss(right, wrong, weights.expand(3, -1, -1))
        assert loss.item() == pytest.approx(0.95 * weight / 20.8, rel=1e-4)


def test_demonstrations_alone_mean_their_labels_where_the_episode_still_runs(batch):
    taught = objective("demos-only")
    half = batch["valid"].clone()
    half[:, 16:] = 0
    with torch.inference_mode():
        first = taught({**batch, "valid": half})
        assert taught({**batch, "valid": half, "endpoint": batch["endpoint"] + 9}) == first
        past_the_end = batch["actions"] + 9 * (1 - half)
        assert taught({**batch, "valid": half, "actions": past_the_end}) == first
        assert taught({**batch, "valid": half, "actions": batch["actions"] + 9}) > first


def student_for(teacher, mode, noise):
    torch.manual_seed(1)
    return make_student(FlowPolicy(teacher), Wish(), mode, noise, ())[0]


NOISE = torch.randn((32, 4), generator=torch.Generator().manual_seed(7))


def test_a_distilled_student_starts_with_the_teacher_s_layers_and_a_control_without(teacher):
    tokens = torch.randint(1, 20, (2, 16))
    with torch.inference_mode():
        meant = teacher.model.text(tokens)
        for mode, equal in (("distil", True), ("without-z", True), ("demos-only", False)):
            assert torch.equal(student_for(teacher, mode, NOISE).text(tokens), meant) is equal


def test_only_the_distilled_student_takes_the_noise_in(teacher):
    made = {mode: student_for(teacher, mode, NOISE) for mode in ("distil", "without-z", "demos-only")}
    assert {mode: one.config.noise_input for mode, one in made.items()} == {
        "distil": True,
        "without-z": False,
        "demos-only": False,
    }
    assert all((one.fixed_noise == NOISE).all() for one in made.values())


def test_the_student_of_a_teacher_of_full_width_has_3_to_4_million_parameters(tmp_path):
    made = student_for(tiny_teacher(tmp_path, width=320, heads=5), "distil", NOISE)
    assert 3e6 < sum(p.numel() for p in made.parameters()) < 4e6


@torch.inference_mode()
def test_the_patch_stem_starts_as_a_whitening_of_the_frames():
    """Frames of 3 independent patterns: the first 3 components are uncorrelated, of like size; the rest is nothing."""
    generator = torch.Generator().manual_seed(3)
    patterns = torch.randn((3, 16, 16, 3), generator=generator)
    amounts = torch.randn((40, 6, 6, 3), generator=generator)
    tiles = torch.einsum("bijk,kxyc->bixjyc", amounts, patterns).reshape(40, 96, 96, 3)
    stem = student().stem
    stem.whiten(tiles + 0.5)
    out = stem.embed(stem.patches(tiles + 0.5)).flatten(0, 2)
    covariance = out.T @ out / len(out)
    assert torch.allclose(covariance[:3, :3], torch.eye(3), atol=0.02)
    assert covariance[3:, 3:].abs().max() < 0.02
    assert stem.patches(stem.mean[None]).abs().max() == 0


def test_whitening_is_the_same_for_the_same_seed(counting, teacher):
    policy = FlowPolicy(teacher)
    stats = policy.spec.state_stats
    source = DemoSource(counting, (stats.offset, stats.scale), 16)
    students = []
    for _ in range(2):
        one, feeding = make_student(policy, Wish(), "distil", NOISE, source.sentences)
        whiten(one, Feed(feeding, source.sentences, source.present), source, 4)
        students.append(one)
    assert students[0].stem.mean.any()
    assert torch.equal(students[0].stem.mean, students[1].stem.mean)
    assert torch.equal(students[0].stem.embed.weight, students[1].stem.embed.weight)


def test_features_of_another_width_are_matched_through_a_map_that_is_no_part_of_the_student(batch):
    model = student()
    taught = DistilObjective(model, "distil", (32, 48))
    wider = torch.randn((3, 38, 48), generator=torch.Generator().manual_seed(2))
    taught({**batch, "features": wider}).backward()
    assert taught.map.weight.grad.abs().sum() > 0
    assert not [name for name in model.state_dict() if "map" in name]


def test_features_of_another_number_of_tokens_are_matched_by_their_mean(batch):
    model = student()
    with torch.inference_mode():
        mine = model(batch, batch["noise"], batch["prefix"], batch["mask"])[1]
        taught = DistilObjective(model, "distil", (32, 32))
        pooled = {**batch, "features": mine.mean(1, keepdim=True)}
        alone = DistilObjective(model, "distil")(pooled)
        assert taught(pooled) == pytest.approx(float(alone), abs=1e-6)
        assert taught({**batch, "features": pooled["features"] + 1.0}) > alone + 0.9 * FEATURE_WEIGHT
