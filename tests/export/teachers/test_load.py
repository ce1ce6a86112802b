"""Any teacher from its folder, and the reference policy behind the same interface."""

import json

import numpy as np
import pytest
import torch

from edgevla.errors import BadInput, Usage
from export.teachers.load import load_policy
from tests.export.teachers.lerobot.tiny import write
from tests.export.tiny import tiny_model, write_teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("ours") / "teacher")


def test_the_reference_policy_answers_as_its_model(folder):
    policy, model = load_policy(folder), tiny_model()
    model.load_state_dict({key: value.half().float() for key, value in model.state_dict().items()})
    image, state = torch.rand(2, 1, 96, 96, 3) * 2 - 1, torch.randn(2, 4)
    tokens, mask = policy.tokenize("open the drawer")
    words = torch.from_numpy(tokens)[None].repeat(2, 1)
    noise, prefix, rows = torch.randn(2, 32, 4), torch.randn(2, 32, 4), torch.zeros(2, 32, 1)
    rows[:, :3] = 1
    with torch.inference_mode():
        ours = policy({"image": image, "tokens": words, "state": state}, noise, prefix, rows)
        wanted = model(image[:, 0], words, state, noise, prefix, rows)
    assert torch.equal(ours, wanted)
    assert torch.equal(ours[:, :3], prefix[:, :3])
    assert mask.tolist() == [1.0] * 3 + [0.0] * 13


def test_the_reference_policy_says_what_it_takes(folder):
    policy = load_policy(folder)
    spec = policy.spec
    assert (spec.name, spec.horizon, spec.d_max, spec.noise, spec.max_tokens) == ("flow-teacher", 32, 8, 4, 16)
    assert spec.actions == ("x", "y", "z", "gripper")
    assert np.allclose(spec.action_stats.invert(np.ones((1, 4), np.float32)), [[0.01, 0.01, 0.01, 1.0]])
    assert policy.noise_scale == 1.0
    assert not policy.training


def test_words_outside_the_vocabulary_are_refused(folder):
    with pytest.raises(BadInput, match="vocabulary"):
        load_policy(folder).tokenize("fold the laundry")


@pytest.mark.parametrize("option", [{"precision": "nf4"}, {"steps": 3}, {"tokenizer": "somewhere"}])
def test_an_option_that_a_teacher_has_no_use_for_is_refused(folder, option):
    with pytest.raises(Usage, match=next(iter(option))):
        load_policy(folder, **option)


def test_an_architecture_that_we_do_not_know_is_refused_by_name(tmp_path):
    folder = write(tmp_path / "policy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "type": "tdmpc"}))
    with pytest.raises(BadInput, match="tdmpc"):
        load_policy(folder)


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_folder_without_a_config_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json"):
        load_policy(tmp_path)
