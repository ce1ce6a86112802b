"""ACT: the recorded answers of the real library, and graphs that answer like the module."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from edgevla.errors import BadInput
from export.onnx.stages import export_stage
from export.teachers.load import load_policy
from tests.export.teachers.lerobot.answers import inputs_of, raw_chunk
from tests.export.teachers.lerobot.layouts import to_old_layout
from tests.export.teachers.lerobot.recorded import with_mode

MODES = ("MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY")


@pytest.fixture(scope="module")
def teacher(act_folder):
    return load_policy(act_folder)


def difference(act, folder, answer):
    raw = act.observations()
    theirs = act.arrays[f"answer/{answer}"].numpy()
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3  # or agreement would say nothing
    return np.abs(raw_chunk(load_policy(folder), raw) - theirs).max()


def test_it_answers_what_the_library_answered(act, act_folder):
    assert difference(act, act_folder, "default") < 1e-4


@pytest.mark.parametrize("mode", MODES)
def test_every_normalisation_answers_what_the_library_answered(act, act_folder, copy, mode):
    assert difference(act, copy(act_folder, mode), mode) < 1e-4


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX"])
def test_statistics_inside_old_weights_give_the_same_answer(act, act_folder, copy, tmp_path, mode):
    assert difference(act, to_old_layout(copy(act_folder, mode), tmp_path / "old"), mode) < 1e-4


def test_a_lora_adapter_of_peft_gives_the_answer_of_the_library(act, act_folder):
    folder = act_folder.parent / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(act.texts["adapter_config.json"]))
    save_file(act.under("adapter/"), folder / "adapter_model.safetensors")
    assert difference(act, folder, "adapter") < 1e-4
    assert load_policy(folder).sha256 != load_policy(act_folder).sha256


def test_the_answers_recorded_for_different_modes_differ(act):
    chunks = [act.arrays[f"answer/{mode}"] for mode in (*MODES, "adapter")]
    for i, one in enumerate(chunks):
        assert all((one - other).abs().max() > 1e-2 for other in chunks[:i])


def test_it_says_what_it_takes(teacher):
    spec = teacher.spec
    assert [(c.name, c.height, c.width, c.fit, c.when_missing) for c in spec.cameras] == [
        ("top", 48, 64, "exact", "refuse"),
        ("wrist", 48, 64, "exact", "refuse"),
    ]
    assert (spec.name, spec.horizon, spec.noise, spec.d_max, spec.max_tokens, spec.observations) == (
        "act",
        6,
        0,
        0,
        0,
        1,
    )
    assert len(spec.state) == 7  # five of the robot, two of the environment
    assert len(spec.actions) == 4
    assert not teacher.training


def test_features_are_a_token_each_for_latent_states_and_feature_map(teacher, act):
    context = teacher.encode(inputs_of(teacher, act.observations()))
    assert teacher.features(context).shape == (2, 1 + 2 + 2 * 2 * 2, 32)


def test_noise_prefix_and_mask_change_nothing(teacher, act):
    context = teacher.encode(inputs_of(teacher, act.observations()))
    nothing, ones = torch.zeros(2, 6, 4), torch.ones(2, 6, 4)
    empty = torch.zeros(2, 6, 0)
    plain = teacher.decode(context, empty, nothing, nothing[..., :1])
    assert torch.equal(plain, teacher.decode(context, empty, ones, ones[..., :1]))


def test_its_graphs_run_one_after_the_other_answer_like_the_module(teacher, act):
    inputs = {name: value[:1] for name, value in inputs_of(teacher, act.observations()).items()}
    known = {name: value.numpy() for name, value in inputs.items()}
    stages = teacher.stages()
    assert [stage.name for stage in stages] == ["vision", "head"]
    for stage in stages:
        session = onnxruntime.InferenceSession(export_stage(stage), providers=["CPUExecutionProvider"])
        out = session.run(None, {name: known[name] for name in stage.inputs})
        known.update(zip(stage.outputs, out, strict=True))
    with torch.inference_mode():
        wanted = teacher(inputs, torch.zeros(1, 6, 0), torch.zeros(1, 6, 4), torch.zeros(1, 6, 1))
    assert np.abs(known["chunk"] - wanted.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"dim_model": 36}, "decoder_norm|latent|queries|project|encoder|action_head|states"),
        ({"chunk_size": 7}, "queries"),
        ({"n_decoder_layers": 2}, r"decoder\.1"),
        ({"n_encoder_layers": 1}, r"encoder\.1"),
        ({"vision_backbone": "vgg"}, "vision_backbone"),
        ({"replace_final_stride_with_dilation": True}, "dilation"),
        ({"feedforward_activation": "glu"}, "glu"),
        ({"n_heads": 5}, "5 heads"),
        ({"dim_model": "wide"}, "dim_model"),
        ({"n_obs_steps": 2}, "n_obs_steps"),
    ],
)
def test_a_config_that_disagrees_with_the_weights_is_refused_by_name(act_folder, copy, config, named):
    with pytest.raises(BadInput, match=named):
        load_policy(copy(act_folder, **config))


def test_cameras_of_different_size_are_refused(act_folder, copy):
    features = with_mode(json.loads((act_folder / "config.json").read_text()), None)["input_features"]
    features["observation.images.top"]["shape"] = [3, 32, 32]
    with pytest.raises(BadInput, match="one size"):
        load_policy(copy(act_folder, input_features=features))
