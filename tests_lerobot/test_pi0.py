"""pi0 and pi05 against LeRobot's own code, at small sizes and with the shim of `pi0_fixture`."""

import numpy as np
import pytest
import torch

from export.teachers.lerobot import pi0
from export.teachers.load import load_policy
from tests_lerobot import pi0_fixture
from tests_lerobot.pi0_fixture import RECORDED, answer, make, observations

KINDS = ("pi0", "pi05")


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    for name in ("VARIANTS", "VISION", "VOCABULARY"):
        monkeypatch.setattr(pi0, name, getattr(pi0_fixture, name))


def ours(folder, inputs, steps):
    policy = load_policy(folder / "policy", tokenizer=folder / "vlm", steps=steps)
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    noise = tensors["noise"]
    empty = torch.zeros(*noise.shape[:2], 6), torch.zeros(*noise.shape[:2], 1)
    with torch.inference_mode():
        return policy(tensors, noise, *empty).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [10, 1])
def test_actions_are_those_of_the_library(tmp_path, kind, steps):
    policy, inputs = make(kind, tmp_path), observations()
    expected = answer(policy, inputs, steps)
    assert np.abs(expected - inputs["noise"][..., :6]).mean() > 0.1
    np.testing.assert_allclose(ours(tmp_path, inputs, steps), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image", [(20, 36), (36, 20), (60, 56), (28, 20)])
def test_pictures_are_fitted_as_in_the_library(tmp_path, kind, image):
    policy, inputs = make(kind, tmp_path, image=image), observations(image)
    np.testing.assert_allclose(ours(tmp_path, inputs, 2), answer(policy, inputs, 2), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_camera_is_masked_as_in_the_library(tmp_path, kind):
    policy, inputs = make(kind, tmp_path), observations()
    inputs["camera_mask"][:, 1] = 0
    np.testing.assert_allclose(ours(tmp_path, inputs, 2), answer(policy, inputs, 2, present=1), atol=1e-4)


def test_the_words_of_pi05_are_those_of_the_library(tmp_path):
    from lerobot.policies.pi05.processor_pi05 import Pi05PrepareStateTokenizerProcessorStep
    from lerobot.processor.core import TransitionKey

    state = np.array([-1.2, -1.0, -0.5, 0.0, 0.999, 1.5], np.float32)
    transition = {
        TransitionKey.OBSERVATION: {"observation.state": torch.from_numpy(state)[None]},
        TransitionKey.COMPLEMENTARY_DATA: {"task": [" push the_red cube\n"]},
    }
    made = Pi05PrepareStateTokenizerProcessorStep(max_state_dim=32)(transition)
    expected = made[TransitionKey.COMPLEMENTARY_DATA]["task"][0]
    assert pi0.prompt_of(" push the_red cube\n", state, 32) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_recording_is_what_the_library_says_today(tmp_path, kind):
    policy = make(kind, tmp_path)
    with np.load(RECORDED / kind / "recorded.npz") as file:
        recorded = dict(file)
    recorded["image"] = (recorded["image"] / 127.5 - 1).astype(np.float32)
    inputs = {name: recorded[name] for name in observations()}
    for steps, name in ((10, "ten"), (1, "one")):
        np.testing.assert_allclose(recorded[name], answer(policy, inputs, steps), atol=1e-4)
