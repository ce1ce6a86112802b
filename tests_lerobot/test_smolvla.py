"""SmolVLA against the real library: tiny configurations of every kind, and once at full size with random weights."""

import numpy as np
import pytest
import torch

from bench.smolvla.library import VLM, make_policy, save_policy, write_vlm
from export.teachers.lerobot.siglip import places_by_fraction
from export.teachers.load import load_policy
from tests_lerobot.smolvla_fixture import RECORDED, SMALL, answer, enliven, make, observations, processed

SETTINGS = {
    "as released, but small": {},
    "self-attention only": {"attention_mode": "self_attn"},
    "cross-attention only": {"self_attn_every_n_layers": 0},
    "self-attention every third layer": {"self_attn_every_n_layers": 3},
    "half as many expert layers": {"num_expert_layers": 2, "self_attn_every_n_layers": 0},
    "all layers of the language model": {"num_vlm_layers": 0},
    "a wide expert": {"expert_width_multiplier": 1.0},
    "a padded prefix": {"prefix_length": 60},
    "smaller pictures than the table": {"resize_imgs_with_padding": (32, 32)},
    "an absent camera": {"empty_cameras": 1},
    "other times": {"min_period": 1e-2, "max_period": 2.0},
    "other paddings": {"max_state_dim": 8, "max_action_dim": 32, "chunk_size": 7, "n_action_steps": 7},
}


def ours(folder, inputs, steps):
    policy = load_policy(folder / "policy", tokenizer=folder / "vlm", steps=steps)
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    noise = tensors["noise"]
    empty = torch.zeros(*noise.shape[:2], len(policy.spec.actions)), torch.zeros(*noise.shape[:2], 1)
    with torch.inference_mode():
        return policy(tensors, noise, *empty).numpy()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_actions_are_those_of_the_library(tmp_path, settings):
    policy = make(tmp_path, **settings)
    side, rows = policy.config.resize_imgs_with_padding[0], policy.config.chunk_size
    inputs = observations(rows=rows)
    inputs["image"] = np.ascontiguousarray(inputs["image"][:, :, :side, :side])
    for steps in (10, 1):
        expected = answer(policy, inputs, steps)
        assert np.abs(expected - inputs["noise"][..., :6]).mean() > 0.1
        fed = dict(inputs)
        if "empty_cameras" in settings:  # the library shows -1 where there is none, and masks it
            fed["image"] = np.concatenate([inputs["image"], np.full_like(inputs["image"][:, :1], -1)], 1)
            fed["camera_mask"] = np.concatenate([inputs["camera_mask"], np.zeros((3, 1), np.float32)], 1)
        np.testing.assert_allclose(ours(tmp_path, fed, steps), expected, atol=1e-4)


def test_pictures_are_fitted_like_the_library_does_it():
    from lerobot.policies.smolvla.modeling_smolvla import resize_with_pad

    wide = resize_with_pad(torch.ones(1, 3, 48, 64), 64, 64, pad_value=0)[0, 0]
    assert (wide[:16] == 0).all()  # the padding is above
    assert (wide[16:] == 1).all()
    tall = resize_with_pad(torch.ones(1, 3, 64, 48), 64, 64, pad_value=0)[0, 0]
    assert (tall[:, :16] == 0).all()  # and on the left
    assert (tall[:, 16:] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("patches", [32, 16])
def test_position_rows_are_those_of_the_tower_in_either_arithmetic(dtype, patches):
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionEmbeddings

    config = SmolVLMVisionConfig(hidden_size=8, image_size=128, patch_size=4, num_attention_heads=1)
    tower = SmolVLMVisionEmbeddings(config)
    with torch.no_grad():
        tower.patch_embedding.weight.zero_()
        tower.patch_embedding.bias.zero_()
        tower.position_embedding.weight.copy_(torch.eye(1024)[:, :8] * 0 + torch.arange(1024)[:, None])
    tower.position_embedding.float()
    pictures = torch.zeros(1, 3, 4 * patches, 4 * patches, dtype=dtype)
    tower.patch_embedding.to(dtype)
    rows = tower(pictures, torch.ones(1, patches, patches, dtype=torch.bool))[0, :, 0]
    np.testing.assert_array_equal(rows.detach().float().numpy(), places_by_fraction(patches, 32, dtype).numpy())


def test_the_recording_is_what_the_library_says_today(tmp_path):
    policy = make(tmp_path)
    with np.load(RECORDED / "recorded.npz") as file:
        recorded = dict(file)
    inputs = {name: recorded[name] for name in ("camera_mask", "tokens", "token_mask", "state", "noise")}
    inputs["image"] = (recorded["image"] / 127.5 - 1).astype(np.float32)
    for steps, name in ((10, "ten"), (1, "one")):
        np.testing.assert_allclose(recorded[name], answer(policy, inputs, steps), atol=1e-4)
    again = processed(tmp_path, policy, recorded["raw_state"], recorded["normalised_action"])
    for name, value in again.items():
        np.testing.assert_allclose(recorded[name], value, atol=1e-6)


def test_the_small_policy_is_the_released_one_but_for_its_sizes():
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

    defaults = SmolVLAConfig()
    assert set(SMALL) == {
        "num_vlm_layers", "chunk_size", "n_action_steps", "tokenizer_max_length", "resize_imgs_with_padding",
    }  # fmt: skip
    assert (defaults.num_steps, defaults.attention_mode, defaults.self_attn_every_n_layers) == (10, "cross_attn", 2)


def test_at_full_size_actions_are_those_of_the_library(tmp_path):
    """450 M random weights: half a minute alone on the machine, and 5 GB."""
    write_vlm(tmp_path / "vlm", VLM)
    policy = make_policy(tmp_path / "vlm", cameras=1, image=512)
    assert 440e6 < sum(p.numel() for p in policy.parameters()) < 460e6
    rng = np.random.default_rng(0)
    inputs = {
        "image": rng.uniform(-1, 1, (1, 1, 512, 512, 3)).astype(np.float32),
        "camera_mask": np.ones((1, 1), np.float32),
        "tokens": rng.integers(0, 49280, (1, 48)).astype(np.int64),
        "token_mask": (np.arange(48) < 12).astype(np.float32)[None],
        "state": rng.standard_normal((1, 6)).astype(np.float32),
        "noise": rng.standard_normal((1, 50, 32)).astype(np.float32),
    }
    expected = {steps: answer(policy, inputs, steps) for steps in (10, 1)}
    save_policy(policy, tmp_path / "policy")
    del policy
    for steps, wanted in expected.items():
        np.testing.assert_allclose(ours(tmp_path, inputs, steps), wanted, atol=1e-4)


def test_a_policy_with_pretrained_language_model_runs_its_tower_in_bfloat16(tmp_path):
    """LeRobot loads that model in bfloat16, so its answers are ours only as far as bfloat16 goes; the position rows
    must be those of bfloat16."""
    from transformers import AutoConfig, SmolVLMForConditionalGeneration

    from bench.smolvla.library import tiny

    write_vlm(tmp_path / "vlm", tiny())
    vlm = SmolVLMForConditionalGeneration(AutoConfig.from_pretrained(tmp_path / "vlm"))
    vlm.save_pretrained(tmp_path / "vlm")
    policy = make_policy(tmp_path / "vlm", 2, 64, **{**SMALL, "load_vlm_weights": True})
    enliven(policy)
    save_policy(policy, tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy", tokenizer=tmp_path / "vlm")
    assert loaded.net.sizes.bfloat16_tower
    inputs = observations()
    expected, got = answer(policy, inputs, 1), ours(tmp_path, inputs, 1)
    assert np.sqrt(np.mean((got - expected) ** 2)) < 0.03 * np.sqrt(np.mean(expected**2))
