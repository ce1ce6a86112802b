"""A head that is told where things are: the picture reaches it through those numbers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput
from export.data.load import open_dataset
from export.distill.parallel import Place
from export.structures.lessons import Lessons, Sizes, next_disturbed, spec_of
from export.structures.once import find_all
from export.structures.places import Places
from export.structures.policy import StructurePolicy
from export.structures.recipe import read_recipe
from export.structures.student import cut
from export.structures.teacher import StructureTeacher
from export.structures.train import new_teacher, run_recipe, vocabulary
from tests.export.structures.test_places import CONV
from tests.export.structures.test_train import written
from tests.export.structures.tiny import rows, tiny_config, tiny_policy
from tests.export.user_files import write_recording

K = 6


def contexts(policy: StructurePolicy, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        words = policy.backbone.hear(batch["tokens"])
        return policy.contexts(batch["image"], words, batch["token_mask"], batch["state"])


@pytest.mark.parametrize(("structure", "head", "window"), [("one-step", "flow", 1), ("policy-head", "lstm", 3)])
def test_two_pictures_with_the_same_places_are_the_same_to_the_head(structure: str, head: str, window: int) -> None:
    policy = tiny_policy(structure, head, window, told=K)
    batch = rows(policy)
    other = {**batch, "image": batch["image"].flip(0)}
    assert not torch.allclose(contexts(policy, batch), contexts(policy, other))
    with torch.no_grad():
        policy.narrow.find[-1].weight.zero_()
    first = contexts(policy, batch)
    assert torch.equal(first, contexts(policy, other))
    assert not torch.allclose(first, contexts(policy, {**batch, "state": batch["state"] + 1.0}))
    assert not torch.allclose(first, contexts(policy, {**batch, "tokens": batch["tokens"].flip(0)}))


def test_padded_words_are_not_heard() -> None:
    policy = tiny_policy("one-step", "flow", told=K)
    batch = rows(policy)
    tokens = torch.where(batch["token_mask"] > 0, batch["tokens"], 5)
    assert torch.allclose(contexts(policy, batch), contexts(policy, {**batch, "tokens": tokens}), atol=1e-6)


def test_the_context_begins_with_the_places_and_what_is_not_there_is_told_as_the_mean() -> None:
    recorded = np.array([[1.0, np.nan], [3.0, np.nan]], np.float32)
    places = Places(recorded, 4, 1.0, told=2)
    assert not list(places.parameters())
    context = torch.zeros(2, 1, 1, 4)
    context[:, 0, 0, 0] = torch.tensor([-1.0, 1.0])  # deviations from the mean 2 m
    there = torch.tensor([[[1.0, np.nan]], [[3.0, np.nan]]])
    assert float(places(context, there)) == 0.0
    context[:, 0, 0, 1] = 0.5
    assert float(places(context, there)) > 0.0


@pytest.mark.parametrize(("told", "head"), [(32, "flow"), (6, "discrete-sequential")])
def test_a_policy_with_no_room_for_what_is_told_is_refused(told: int, head: str) -> None:
    with pytest.raises(BadInput, match="told"):
        tiny_config("one-step", head, told=told)


def test_a_recipe_must_teach_what_it_tells(tmp_path: Path) -> None:
    text = CONV.replace("[policy]", "[policy]\ntold = 6")
    with pytest.raises(BadInput, match="places in every stage"):
        read_recipe(written(tmp_path, tmp_path, text))
    assert read_recipe(written(tmp_path, tmp_path, text + "places = 1.0\nforeseen = true\n")).stages[0].foreseen


def test_the_next_tick_at_which_something_else_was_done() -> None:
    wanted, executed = np.zeros((6, 2)), np.zeros((6, 2))
    executed[[1, 4], 1] = 0.5
    assert next_disturbed(wanted, executed).tolist() == [1, 1, 4, 4, 4, 6]


class Pushed:
    """Two episodes of 20 ticks; at two of them something else was done than what was wanted."""

    ticks, pushed = 40, (6, 26)
    action = state = np.random.default_rng(0).normal(size=(ticks, 4)).astype(np.float32)
    executed = action + np.isin(np.arange(ticks), pushed)[:, None].astype(np.float32)
    start = np.repeat([0, 20], 20)
    end, task_index = start + 20, np.zeros(ticks, np.int64)
    state_names = action_names = ("a", "b", "c", "d")
    wordings = ()

    class _Front:
        name, height, width = "front", 4, 4

    cameras = (_Front,)

    def __len__(self) -> int:
        return self.ticks

    def image(self, ticks: np.ndarray, camera: str) -> np.ndarray:
        return np.zeros((len(ticks), 4, 4, 3), np.uint8)


@pytest.mark.parametrize("foreseen", [False, True])
def test_rows_count_until_a_push_that_is_not_in_the_prefix(foreseen: bool) -> None:
    data = Pushed()
    spec = spec_of(data, "structure", (4, 4), 8, 3, 6, 1, 2)
    nothing = (np.zeros(6, np.int64), np.zeros(6, np.float32))
    batch = Lessons(data, spec, lambda text: nothing, Sizes(400, 1), 0, foreseen=foreseen).next()
    same = batch["state"].numpy() == spec.state_stats.apply(data.state)[None]
    depth, valid = batch["mask"][:, 0, :, 0].sum(1).numpy().astype(int), batch["valid"][:, 0, :, 0].numpy()
    for tick, committed, counts in zip(same.all(2).argmax(1), depth, valid, strict=True):
        end = 20 * (tick // 20 + 1)
        pushes = [push for push in data.pushed if min(tick + committed, end - 1) <= push < end]
        last = pushes[0] + 1 if foreseen and pushes else end
        assert counts.tolist() == [float(tick + k < last) for k in range(8)]


def test_a_stage_of_the_head_alone_leaves_what_sees_as_it_was(tmp_path: Path) -> None:
    """And one process finds what two find together, in the order of the ticks."""
    write_recording(tmp_path / "data", {"front": (32, 32)}, 3, 2)
    text = CONV.replace("[policy]", "[policy]\ntold = 6")
    recipe = read_recipe(written(tmp_path, tmp_path, text + "head_only = true\n"))
    data = open_dataset(tmp_path / "data", tmp_path, False)
    torch.manual_seed(recipe.seed)
    before = new_teacher(recipe, data, vocabulary([data])).policy.state_dict()
    teacher, _ = run_recipe(recipe, tmp_path / "out", loud=False)
    after = teacher.policy.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed if ".stem." not in name} <= {"narrow", "head", "history"}
    assert {name.rsplit(".", 2)[0] for name in changed if name.startswith("narrow")} == {"narrow.say", "narrow.tell"}
    whole = find_all(teacher, data, Place(0, 1), loud=False)
    parts = [find_all(teacher, data, Place(rank, 2), loud=False) for rank in range(2)]
    assert whole.shape == (len(data), 6)
    assert np.allclose(whole, sum(parts), atol=1e-5)


@pytest.mark.parametrize(
    ("told", "line"),
    [("", "head_only = true"), ("told = 6", "head_only = true\nplaces = 1.0"), ("", "places = 1.0\nhead_only = 1")],
)
def test_the_head_alone_where_that_cannot_be(tmp_path: Path, told: str, line: str) -> None:
    with pytest.raises(BadInput, match="head_only"):
        read_recipe(written(tmp_path, tmp_path, CONV.replace("[policy]", f"[policy]\n{told}") + line + "\n"))


def test_a_student_of_a_flow_begins_with_its_first_step() -> None:
    """A flow of one step is one pass: cut from it, the student answers the same before any training."""
    policy = tiny_policy("one-step", "flow", steps=1, told=K)
    batch, c = rows(policy), policy.config
    spec = spec_of(Pushed(), "structure", (32, 32), c.horizon, c.d_max, 6, 1, 2)
    student = cut(StructureTeacher(policy, spec, ("a", "b")), 1.0, c.d_max).policy.policy.eval()
    assert {name.split(".")[0] for name, value in student.named_parameters() if value.requires_grad} == {"head"}
    noise = torch.randn(2, c.horizon, c.actions)
    prefix, mask = torch.randn_like(noise), (torch.arange(c.horizon) < 2).float()[None, :, None].expand(2, -1, -1)
    with torch.no_grad():
        assert torch.allclose(
            student.act(batch, noise, prefix, mask), policy.act(batch, noise, prefix, mask), atol=1e-5
        )
