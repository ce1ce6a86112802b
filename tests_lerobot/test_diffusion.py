"""Diffusion Policy of the library and ours, from the same starting noise; for DDPM with the same fresh noise too."""

import pytest
import torch

from export.teachers.load import load_policy
from tests.export.teachers.lerobot.answers import inputs_of, noise_of_rows
from tests_lerobot.build import make_policy
from tests_lerobot.compare import compare, note

SMALL = {"down_dims": (32, 64, 32), "noise_scheduler_type": "DDIM", "num_inference_steps": 7, "state": 3}
TWO = {"top": (64, 96), "wrist": (64, 96)}


def rows_of(made, batch=2):
    config = made.policy.config
    shape = (batch, config.horizon, config.action_feature.shape[0])
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def same(made, folder):
    past = made.policy.config.n_obs_steps - 1
    raw, rows = made.observations(past + 1), rows_of(made)
    theirs = made.chunk(raw, noise=rows)
    return compare(folder, raw, theirs, noise_of_rows(rows, past), slice(made.policy.config.n_action_steps))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"cameras": TWO},
        {"cameras": TWO, "use_separate_rgb_encoder_per_camera": True, "environment": 2},
        {"cameras": {}, "environment": 6},
        {"cameras": TWO, "resize_shape": (48, 80), "crop_ratio": 0.9},
        {"resize_shape": (96, 84)},
        {"crop_shape": (41, 60), "cameras": TWO},
        {"use_group_norm": False},
        {"vision_backbone": "resnet34", "spatial_softmax_num_keypoints": 9},
        {"prediction_type": "sample"},
        {"use_film_scale_modulation": False, "kernel_size": 3, "n_groups": 4},
        {"beta_schedule": "linear"},
        {"beta_schedule": "scaled_linear"},
        {"clip_sample": False, "beta_schedule": "linear"},
        {"clip_sample_range": 0.6},
        {"n_obs_steps": 1},
        {"n_obs_steps": 3, "cameras": TWO},
        {"num_inference_steps": None, "num_train_timesteps": 20},
        {"down_dims": (32, 48), "horizon": 8, "n_action_steps": 4},
        {"modes": {"STATE": "MEAN_STD", "ACTION": "QUANTILES"}},
    ],
    ids=str,
)
def test_small_ones_answer_the_same_by_ddim(tmp_path, config):
    same(make_policy("diffusion", tmp_path, **{**SMALL, **config}), tmp_path)


def test_the_default_size_answers_the_same_by_ddim(tmp_path):
    made = make_policy(
        "diffusion", tmp_path, cameras={"top": (96, 96)}, state=2, actions=2, noise_scheduler_type="DDIM",
        num_inference_steps=10, crop_shape=(84, 84),
    )  # fmt: skip
    assert sum(p.numel() for p in made.policy.parameters()) > 250e6
    same(made, tmp_path)


@pytest.mark.parametrize("config", [{}, {"prediction_type": "sample"}, {"num_inference_steps": None}], ids=str)
def test_ddpm_answers_the_same_when_it_draws_the_same_noise(tmp_path, config):
    made = make_policy(
        "diffusion", tmp_path, **{**SMALL, "noise_scheduler_type": "DDPM", "num_train_timesteps": 20, **config}
    )
    raw, rows = made.observations(2), rows_of(made)
    torch.manual_seed(5)
    theirs = made.chunk(raw, noise=rows)
    teacher = load_policy(tmp_path)
    torch.manual_seed(5)
    with torch.inference_mode():
        context = teacher.encode(inputs_of(teacher, raw))
        ours = teacher.decode_ddpm(context, noise_of_rows(rows, 1), lambda: torch.randn(rows.shape))
    note(teacher.spec.action_stats.invert(ours[:, :8].numpy()), theirs)


def test_a_policy_trained_for_ddpm_is_run_by_ddim_as_the_library_would_with_that_scheduler(tmp_path):
    made = make_policy("diffusion", tmp_path / "ddpm", **{**SMALL, "noise_scheduler_type": "DDPM"})
    other = make_policy("diffusion", tmp_path / "ddim", **SMALL)
    raw, rows = made.observations(2), rows_of(made)
    theirs = other.chunk(raw, noise=rows)
    compare(tmp_path / "ddpm", raw, theirs, noise_of_rows(rows, 1), slice(8))


def test_fewer_steps_are_the_steps_the_library_takes_when_asked_for_as_many(tmp_path):
    made = make_policy("diffusion", tmp_path, **{**SMALL, "num_inference_steps": 4})
    raw, rows = made.observations(2), rows_of(made)
    theirs = made.chunk(raw, noise=rows)
    made = make_policy("diffusion", tmp_path, **{**SMALL, "num_inference_steps": 25})
    compare(tmp_path, raw, theirs, noise_of_rows(rows, 1), slice(8), steps=4)
