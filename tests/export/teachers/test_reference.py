"""The flow teacher: prefix rows stay, rows of a batch are alone, the flow is Euler steps that add up."""

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput
from export.channels import ACTION_SCALE
from export.students.layers import ActionTokens
from export.teachers.engine import TeacherEngine
from export.teachers.reference import FlowObjective
from tests.export.tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def observation():
    generator = torch.Generator().manual_seed(2)
    depth = torch.tensor([0, 3, 8])
    return {
        "image": torch.rand((3, 96, 96, 3), generator=generator) * 2 - 1,
        "tokens": torch.randint(1, 20, (3, 16), generator=generator),
        "state": torch.randn((3, 4), generator=generator),
        "noise": torch.randn((3, 32, 4), generator=generator),
        "prefix": torch.randn((3, 32, 4), generator=generator),
        "mask": (torch.arange(32)[None] < depth[:, None]).float()[..., None],
    }


@torch.inference_mode()
def flow(model, observation, **changes):
    return model(*{**observation, **changes}.values())


def test_prefix_rows_come_out_as_they_went_in(model, observation):
    chunk = flow(model, observation)
    kept = observation["mask"].expand(-1, -1, 4) > 0
    assert (chunk[kept] == observation["prefix"][kept]).all()
    assert torch.isfinite(chunk).all()


def test_what_lies_past_the_prefix_in_its_buffer_does_not_matter(model, observation):
    mask = observation["mask"]
    junk = observation["prefix"] * mask + 50 * (1 - mask)
    assert torch.equal(flow(model, observation), flow(model, observation, prefix=junk))


def test_noise_under_the_prefix_does_not_matter_and_elsewhere_it_does(model, observation):
    mask = observation["mask"]
    under = observation["noise"] + 5 * mask
    beyond = observation["noise"] + 5 * (1 - mask)
    assert torch.equal(flow(model, observation), flow(model, observation, noise=under))
    assert (flow(model, observation) - flow(model, observation, noise=beyond)).abs().max() > 0.1


@pytest.mark.parametrize("changed", ["image", "tokens", "state", "prefix"])
def test_every_part_of_the_observation_bears_on_the_chunk(model, observation, changed):
    other = -observation["prefix"] if changed == "prefix" else observation[changed].flip(0)
    free = observation["mask"][1:].expand(-1, -1, 4) == 0
    moved = (flow(model, observation) - flow(model, observation, **{changed: other}))[1:]
    assert moved[free].abs().max() > 1e-5


def test_rows_of_a_batch_do_not_see_each_other(model, observation):
    whole = flow(model, observation)
    for i in range(3):
        alone = {key: value[i : i + 1] for key, value in observation.items()}
        assert torch.allclose(whole[i : i + 1], flow(model, alone), atol=1e-5)


@torch.inference_mode()
def test_the_flow_is_two_euler_steps_worked_out_by_hand(model, observation):
    encoded, condition = model.encode(*(observation[key] for key in ("image", "tokens", "state")))
    cache, none = model.keys_values(encoded), torch.zeros(3, 32, 1)
    x = observation["noise"]
    middle = x + model.velocity(x, torch.full((3,), 0.0), none, condition, cache) / 2
    end = middle + model.velocity(middle, torch.full((3,), 0.5), none, condition, cache) / 2
    assert torch.allclose(flow(model, observation, mask=none), end, atol=1e-6)


def test_padding_behind_an_instruction_does_not_change_its_meaning(model):
    tokens = torch.tensor([[3, 5, 7] + [0] * 13])
    with torch.inference_mode():
        whole = model.text(tokens)
        hidden = model.text.block.attention
        assert torch.isfinite(whole).all()
        assert torch.isfinite(model.text(torch.zeros_like(tokens))).all()  # no word at all
        model.text.position.data, kept = model.text.position.data.clone(), model.text.position.data
        model.text.position.data[3:] += 100.0
        assert torch.allclose(model.text(tokens), whole, atol=1e-5)
        model.text.position.data = kept
    assert hidden.heads == 4


def test_the_loss_is_nothing_where_the_episode_is_over_or_the_action_committed(model, observation):
    batch = {**observation, "actions": observation["prefix"], "valid": torch.ones(3, 32, 1)}
    batch["valid"][:, 20:] = 0

    def loss(**changes):
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            return float(FlowObjective(model, 2, generator)({**batch, **changes}))

    def changed(rows):
        actions = batch["actions"].clone()
        actions[:, rows] += 1.0
        return actions

    assert loss() > 0
    assert loss(actions=changed(slice(10, 20))) != pytest.approx(loss(), rel=1e-3)
    everything_over = {"valid": torch.cat([torch.ones(3, 9, 1), torch.zeros(3, 23, 1)], 1)}
    assert loss(**everything_over) > 0


def test_the_gradient_reaches_every_weight(observation):
    model = tiny_model(seed=4).train()
    batch = {**observation, "actions": observation["prefix"], "valid": torch.ones(3, 32, 1)}
    FlowObjective(model, 1, torch.Generator().manual_seed(0))(batch).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []


def test_a_horizon_that_is_no_multiple_of_the_ticks_per_token_is_refused():
    with pytest.raises(ValueError, match="multiple of 4 ticks per token, got 30"):
        ActionTokens(30, 4, 4, 32)


class TestEngine:
    """The teacher behind the interface of the run-time engine."""

    IMAGE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    STATE = np.array([0.1, 0.7, 0.15, 0.5], np.float32)
    PREFIX = np.random.default_rng(1).uniform(-1, 1, (2, 4)).astype(np.float32)
    NOISE = np.random.default_rng(2).standard_normal((32, 4)).astype(np.float32)

    def infer(self, engine, instruction="open the drawer"):
        engine.set_instruction(instruction)
        return engine.infer(self.IMAGE, self.STATE, self.PREFIX)

    def test_its_chunk_is_the_model_s_on_the_same_numbers(self, teacher):
        chunk = self.infer(TeacherEngine(teacher, self.NOISE))
        image = torch.from_numpy(self.IMAGE / 127.5 - 1).float()[None]
        tokens = torch.from_numpy(teacher.vocabulary.encode("open the drawer"))[None]
        state = torch.from_numpy((self.STATE - teacher.state_mean) / teacher.state_std)[None]
        prefix, mask = torch.zeros(1, 32, 4), torch.zeros(1, 32, 1)
        prefix[0, :2], mask[0, :2] = torch.from_numpy(self.PREFIX), 1
        with torch.inference_mode():
            expected = teacher.model(image, tokens, state, torch.from_numpy(self.NOISE)[None], prefix, mask)[0]
        np.testing.assert_allclose(chunk, expected.numpy(), atol=1e-5)
        assert (chunk[:2] == self.PREFIX).all()

    def test_fresh_noise_is_new_at_every_call_and_the_same_for_the_same_seed(self, teacher):
        one, two = TeacherEngine(teacher, None, seed=3), TeacherEngine(teacher, None, seed=3)
        first, second = self.infer(one), self.infer(one)
        assert (first != second).any()
        assert (self.infer(two) == first).all()

    def test_blank_words_make_all_instructions_alike(self, teacher):
        engine = TeacherEngine(teacher, self.NOISE, blank_words=True)
        assert (self.infer(engine, "open the drawer") == self.infer(engine, "close the window")).all()
        engine = TeacherEngine(teacher, self.NOISE)
        assert (self.infer(engine, "open the drawer") != self.infer(engine, "close the window")).any()

    def test_it_refuses_what_the_run_time_engine_refuses(self, teacher):
        engine = TeacherEngine(teacher, self.NOISE)
        with pytest.raises(BadInput, match="outside the vocabulary"):
            engine.set_instruction("open the fridge")
        with pytest.raises(BadInput, match="image of camera corner"):
            engine.infer(self.IMAGE[:48], self.STATE, self.PREFIX)

    def test_its_set_points_are_in_metres_from_the_anchor(self, teacher):
        anchor = np.array([0.0, 0.6, 0.2, 0.0], np.float32)
        told = TeacherEngine(teacher, self.NOISE).to_setpoints(np.ones((4, 4), np.float32), anchor, 2)
        np.testing.assert_allclose(told[:, 0], [0.0, 0.0, 0.01, 0.02], atol=1e-6)
        assert ACTION_SCALE[0] == np.float32(0.01)
