"""Diffusion Policy: the recorded answers of the real library, its noise, and graphs that answer like the module."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from edgevla.errors import BadInput
from export.onnx.stages import export_stage
from export.teachers.load import load_policy
from tests.export.teachers.lerobot.answers import inputs_of, noise_of_rows, raw_chunk

MODES = ("MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY")


@pytest.fixture(scope="module")
def teacher(diffusion_folder):
    return load_policy(diffusion_folder)


def difference(diffusion, folder, answer):
    theirs = diffusion.arrays[f"answer/{answer}"].numpy()
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3
    ours = raw_chunk(load_policy(folder), diffusion.observations(), noise_of_rows(diffusion.arrays["noise"], 1))
    return np.abs(ours[:, :4] - theirs).max()  # the library gives n_action_steps rows of them


def test_it_answers_what_the_library_answered_from_the_same_noise(diffusion, diffusion_folder):
    assert difference(diffusion, diffusion_folder, "ddim") < 1e-4


@pytest.mark.parametrize("mode", MODES)
def test_every_normalisation_answers_what_the_library_answered(diffusion, diffusion_folder, copy, mode):
    assert difference(diffusion, copy(diffusion_folder, mode), mode) < 1e-4


def test_a_config_that_says_ddpm_is_run_by_ddim(diffusion, diffusion_folder, copy):
    folder = copy(diffusion_folder, noise_scheduler_type="DDPM")
    assert difference(diffusion, folder, "ddim") < 1e-4


@torch.inference_mode()
def test_ddpm_answers_what_the_library_answered_from_the_same_draws(teacher, diffusion):
    context = teacher.encode(inputs_of(teacher, diffusion.observations()))
    draws = iter([diffusion.arrays[f"fresh/{i}"] for i in range(4)])
    ours = teacher.decode_ddpm(context, noise_of_rows(diffusion.arrays["noise"], 1), lambda: next(draws))
    raw = teacher.spec.action_stats.invert(ours[:, :4].numpy())
    assert np.abs(raw - diffusion.arrays["answer/ddpm"].numpy()).max() < 1e-4
    assert not list(draws)


def test_it_says_what_it_takes(teacher):
    spec = teacher.spec
    assert [(camera.name, camera.height, camera.width) for camera in spec.cameras] == [
        ("top", 48, 64),
        ("wrist", 48, 64),
    ]
    assert (spec.name, spec.observations, spec.d_max, spec.max_tokens) == ("diffusion", 2, 0, 0)
    assert (spec.horizon, spec.noise, len(spec.state)) == (7, 8, 5)  # 8 rows, the first of them past
    assert teacher.schedule.times == (16, 12, 8, 4, 0)


def test_noise_of_the_past_acts_and_the_rest_of_the_extra_columns_does_not(teacher, diffusion):
    raw, rows = diffusion.observations(), diffusion.arrays["noise"]
    noise = noise_of_rows(rows, 1)
    answer = raw_chunk(teacher, raw, noise)
    meaningless, past = noise.clone(), noise.clone()
    meaningless[:, 1:, 4:] = 9.0
    past[:, :1, 4:] += 1.0
    assert np.array_equal(raw_chunk(teacher, raw, meaningless), answer)
    assert np.abs(raw_chunk(teacher, raw, past) - answer).max() > 1e-2


def test_packing_and_unpacking_rows_is_the_identity(teacher):
    noisy = torch.randn(2, 7, 8)
    assert torch.equal(teacher.pack(teacher.unpack(noisy), noisy), noisy)


def test_fewer_steps_can_be_asked_for(diffusion_folder):
    assert load_policy(diffusion_folder, steps=2).schedule.times == (10, 0)


@pytest.mark.parametrize("steps", [0, 21])
def test_more_steps_than_it_was_trained_with_or_none_are_refused(diffusion_folder, steps):
    with pytest.raises(BadInput, match="1 to 20 steps"):
        load_policy(diffusion_folder, steps=steps)


def test_features_are_one_token_per_observation(teacher, diffusion):
    context = teacher.encode(inputs_of(teacher, diffusion.observations()))
    assert teacher.features(context).shape == (2, 2, 5 + 2 * 2 * 6)


def test_its_step_graph_run_at_each_of_its_times_answers_like_the_module(teacher, diffusion):
    inputs = {name: value[:1] for name, value in inputs_of(teacher, diffusion.observations()).items()}
    noise = noise_of_rows(diffusion.arrays["noise"], 1)[:1]
    vision, step = teacher.stages()
    assert (vision.times, step.times) == ((), (16.0, 12.0, 8.0, 4.0, 0.0))
    sessions = [
        onnxruntime.InferenceSession(export_stage(s), providers=["CPUExecutionProvider"]) for s in (vision, step)
    ]
    (condition,) = sessions[0].run(None, {name: inputs[name].numpy() for name in vision.inputs})
    noisy = noise.numpy()
    for time in step.times:
        feeds = {"noisy": noisy, "t": np.array([time], np.float32), "condition": condition}
        (noisy,) = sessions[1].run(None, feeds)
    with torch.inference_mode():
        wanted = teacher(inputs, noise, torch.zeros(1, 7, 4), torch.zeros(1, 7, 1))
    assert np.abs(noisy[..., :4] - wanted.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"down_dims": [16, 48]}, r"unet"),
        ({"down_dims": [16, 32, 32, 32, 32]}, "multiple of 16"),
        ({"horizon": 9}, "multiple of 2"),
        ({"n_obs_steps": 0}, "observation"),
        ({"n_obs_steps": 3}, "unet"),
        ({"crop_ratio": 0.5}, "pos_grid"),
        ({"resize_shape": [40]}, "resize_shape"),
        ({"resize_shape": None, "crop_shape": [50, 50]}, "crop"),
        ({"prediction_type": "v_prediction"}, "v_prediction"),
        ({"beta_schedule": "sigmoid"}, "sigmoid"),
        ({"use_separate_rgb_encoder_per_camera": True}, r"eyes\.1"),
        ({"use_group_norm": False}, "running"),
    ],
)
def test_a_config_that_disagrees_with_the_weights_is_refused_by_name(diffusion_folder, copy, config, named):
    with pytest.raises(BadInput, match=named):
        load_policy(copy(diffusion_folder, **config))


def test_weights_of_a_compiled_network_are_read(diffusion, diffusion_folder, copy):
    from safetensors.torch import load_file, save_file

    folder = copy(diffusion_folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    renamed = {key.replace("diffusion.unet.", "diffusion.unet._orig_mod."): value for key, value in tensors.items()}
    save_file(renamed, folder / "model.safetensors")
    assert json.loads((folder / "config.json").read_text())["type"] == "diffusion"
    assert difference(diffusion, folder, "ddim") < 1e-4
