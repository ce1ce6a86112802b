"""The one-pass student and what it is taught."""

import pytest
import torch

from export.distill.student import DistilObjective, student_for
from export.students.onepass import OnePassStudent, StudentConfig
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
        "image": torch.rand((3, 96, 96, 3), generator=generator) * 2 - 1,
        "tokens": torch.randint(1, 30, (3, 16), generator=generator),
        "state": torch.randn((3, 4), generator=generator),
        "noise": torch.randn((3, 32, 4), generator=generator),
        "prefix": torch.randn((3, 32, 4), generator=generator),
        "mask": (torch.arange(32)[None] < depth[:, None]).float()[..., None],
        "endpoint": torch.randn((3, 32, 4), generator=generator),
        "actions": torch.randn((3, 32, 4), generator=generator),
        "valid": torch.ones((3, 32, 1)),
    }


def answer(model, batch, **changes):
    inputs = {**batch, **changes}
    names = ("image", "tokens", "state", "noise", "prefix", "mask")
    with torch.inference_mode():
        return model(*(inputs[name] for name in names))


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
    objective = DistilObjective(student(), "distil")
    with torch.inference_mode():
        first = objective(batch)
        spoilt = batch["endpoint"] + 100 * batch["mask"]
        assert objective({**batch, "endpoint": spoilt}) == first
        assert objective({**batch, "endpoint": -batch["endpoint"]}) != first


def test_the_loss_is_the_mean_huber_distance_worked_out_by_hand(batch):
    """Smooth L1 with beta 0.1 at distance 1: 1 - 0.05 for every number of every counted row."""
    model = student()
    endpoint = answer(model, batch) + 1.0
    with torch.inference_mode():
        assert DistilObjective(model, "distil")({**batch, "endpoint": endpoint}).item() == pytest.approx(0.95, abs=1e-5)


def test_demonstrations_alone_mean_their_labels_where_the_episode_still_runs(batch):
    objective = DistilObjective(student(), "demos-only")
    half = batch["valid"].clone()
    half[:, 16:] = 0
    with torch.inference_mode():
        first = objective({**batch, "valid": half})
        assert objective({**batch, "valid": half, "endpoint": batch["endpoint"] + 9}) == first
        past_the_end = batch["actions"] + 9 * (1 - half)
        assert objective({**batch, "valid": half, "actions": past_the_end}) == first
        assert objective({**batch, "valid": half, "actions": batch["actions"] + 9}) > first


def test_the_student_of_a_teacher_is_one_pass_and_has_its_words(tmp_path):
    teacher = tiny_teacher(tmp_path, width=320, heads=5)
    made = student_for(teacher, "distil")
    tokens = torch.randint(1, 20, (2, 16))
    with torch.inference_mode():
        assert torch.equal(made.text(tokens), teacher.model.text(tokens))
    assert made.config.noise_input
    assert not student_for(teacher, "without-z").config.noise_input
    assert 3e6 < sum(p.numel() for p in made.parameters()) < 4e6
