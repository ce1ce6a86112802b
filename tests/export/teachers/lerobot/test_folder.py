"""A policy folder is read whole, or refused in one sentence that names what is wrong."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevla.errors import BadInput
from export.teachers.lerobot.folder import open_folder
from tests.export.teachers.lerobot.tiny import STATE_FILE, Net, steps, write


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "policy")


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_it_says_what_the_policy_takes(folder):
    opened = open_folder(folder)
    assert (opened.type, opened.cameras, opened.image_shapes) == ("act", ("top",), {"top": (8, 6)})
    assert (opened.state_size, opened.robot_state_size, opened.env_state_size, opened.action_size) == (3, 3, 0, 2)
    assert (opened.tokenizer_name, opened.max_tokens) == (None, 0)
    assert opened.image_stats["top"].scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("mode", "offset", "scale_in", "scale_out"),
    [
        ("MEAN_STD", 1.0, 2.0, 2.0),
        ("MIN_MAX", 1.0, 2.0, 2.0),
        ("QUANTILES", 1.0, 1.5, 1.5),
        ("QUANTILE10", 1.0, 1.0, 1.0),
        ("IDENTITY", 0.0, 1.0, 1.0),
    ],
)
def test_every_mode_is_an_offset_and_a_scale(tmp_path, mode, offset, scale_in, scale_out):
    opened = open_folder(write(tmp_path / "policy", mode))
    assert opened.state_stats.offset.tolist() == [offset] * 3
    assert opened.state_stats.scale.tolist() == [scale_in] * 3
    assert opened.action_stats.offset.tolist() == [offset] * 2
    assert opened.action_stats.scale.tolist() == [scale_out] * 2
    assert opened.state_stats.scale.dtype == np.float32


def test_epsilon_counts_on_the_way_in_and_not_on_the_way_out(folder):
    for name, key in (("policy_preprocessor.json", "normalizer"), ("policy_postprocessor.json", "unnormalizer")):
        edit(folder / name, lambda v: v["steps"][0]["config"].update(eps=0.5))
        assert key in (folder / name).read_text()
    opened = open_folder(folder)
    assert opened.state_stats.scale.tolist() == [2.5] * 3
    assert opened.action_stats.scale.tolist() == [2.0] * 2


def test_what_the_processor_says_holds_not_the_config(folder):
    edit(folder / "config.json", lambda v: v.update(normalization_mapping={"STATE": "IDENTITY"}))
    assert open_folder(folder).state_stats.offset.tolist() == [1.0] * 3


def test_a_feature_that_the_processor_leaves_out_is_not_normalised(folder):
    left_out = steps("MEAN_STD", normalize_observation_keys=["observation.images.top"])
    (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": left_out}))
    opened = open_folder(folder)
    assert opened.state_stats.scale.tolist() == [1.0] * 3
    assert opened.action_stats.scale.tolist() == [2.0] * 2


def test_cameras_have_the_names_that_the_dataset_gives_them(folder):
    rename = {
        "registry_name": "rename_observations_processor",
        "config": {"rename_map": {"observation.images.front": "observation.images.top"}},
    }
    edit(folder / "policy_preprocessor.json", lambda v: v["steps"].insert(0, rename))
    opened = open_folder(folder)
    assert opened.cameras == ("front",)
    assert opened.image_shapes == {"front": (8, 6)}


def test_words_come_from_the_tokenizer_step(folder):
    step = {
        "registry_name": "tokenizer_processor",
        "config": {"max_length": 48, "tokenizer_name": "some/tokenizer", "padding_side": "right"},
    }
    edit(folder / "policy_preprocessor.json", lambda v: v["steps"].insert(0, step))
    opened = open_folder(folder)
    assert (opened.tokenizer_name, opened.max_tokens) == ("some/tokenizer", 48)
    assert opened.steps["tokenizer_processor"]["padding_side"] == "right"


def test_the_hash_covers_weights_statistics_and_config(folder, tmp_path):
    first = open_folder(folder).sha256
    assert open_folder(write(tmp_path / "same")).sha256 == first
    edit(folder / "config.json", lambda v: v.update(n_heads=9))
    second = open_folder(folder).sha256
    tensors = load_file(folder / STATE_FILE)
    save_file({**tensors, "action.mean": tensors["action.mean"] + 1}, folder / STATE_FILE)
    third = open_folder(folder).sha256
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "table": tensors["table"] + 1}, folder / "model.safetensors")
    assert len({first, second, third, open_folder(folder).sha256}) == 4


def test_weights_get_into_a_module_and_onto_meta(folder):
    real, meta = Net(), Net().to("meta")
    for net in (real, meta):
        open_folder(folder).load_into(net)
        for key, value in load_file(folder / "model.safetensors").items():
            assert torch.equal(net.state_dict()[key], value), key


def test_rename_maps_keys_and_leaves_out(folder):
    opened = open_folder(folder)
    found = dict(opened.tensors(lambda key: None if key == "table" else f"net.{key}"))
    assert sorted(found) == ["net.first.bias", "net.first.weight", "net.second.bias", "net.second.weight"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda v: v.pop("type"), "type"),
        (lambda v: v.update(input_features=None), "input_features"),
        (lambda v: v.pop("output_features"), "output_features"),
        (lambda v: v["output_features"].pop("action"), "action"),
        (lambda v: v["input_features"]["observation.state"].pop("shape"), r"observation\.state"),
        (lambda v: v["input_features"]["observation.state"].update(shape=["x"]), r"observation\.state"),
        (lambda v: v["input_features"]["observation.state"].update(shape=[0]), "above 0"),
        (lambda v: v["input_features"]["observation.state"].update(shape=[4]), r"observation\.state\.mean"),
        (lambda v: v["input_features"]["observation.images.top"].update(shape=[1, 8, 6]), "height, width"),
        (lambda v: v["output_features"]["action"].update(shape=[3]), r"action\.mean"),
    ],
)
def test_a_config_that_lacks_something_is_refused(folder, change, named):
    edit(folder / "config.json", change)
    with pytest.raises(BadInput, match=named):
        open_folder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
@pytest.mark.parametrize("name", ["config.json", "policy_preprocessor.json", "policy_postprocessor.json"])
def test_a_file_that_is_no_table_is_refused(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(BadInput, match=name.split(".")[0]):
        open_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "policy_postprocessor.json", "model.safetensors", STATE_FILE])
def test_a_missing_file_is_refused_by_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(BadInput, match=name.split(".")[0]):
        open_folder(folder)


def test_no_statistics_anywhere_are_refused(folder):
    (folder / "policy_preprocessor.json").unlink()
    with pytest.raises(BadInput, match=r"policy_preprocessor\.json, or normalize_inputs buffers"):
        open_folder(folder)


def test_without_any_normalisation_no_statistics_are_needed(folder):
    (folder / "policy_preprocessor.json").unlink()
    edit(folder / "config.json", lambda v: v.update(normalization_mapping={"STATE": "IDENTITY", "ACTION": "IDENTITY"}))
    assert open_folder(folder).action_stats.scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("key", "values", "named"),
    [
        ("action.std", [1.0, 0.0], r"(?s)positive action\.std.*0 in channel 1"),
        ("observation.state.std", [-1.0, 1.0, 1.0], "-1 in channel 0"),
        ("observation.state.std", [1e-42, 1.0, 1.0], "channel 0"),  # nothing left of it in float32
        ("observation.state.mean", [float("nan"), 1.0, 1.0], r"observation\.state\.mean"),
        ("action.mean", [float("inf"), 1.0], r"action\.mean"),
        ("action.mean", [1.0], "2 finite numbers"),
        ("action.mean", None, r"action\.mean"),
    ],
)
def test_statistics_that_cannot_be_used_are_refused_by_name(folder, key, values, named):
    tensors = load_file(folder / STATE_FILE)
    tensors.pop(key)
    if values is not None:
        tensors[key] = torch.tensor(values)
    save_file(tensors, folder / STATE_FILE)
    with pytest.raises(BadInput, match=named) as error:
        open_folder(folder)
    assert STATE_FILE in str(error.value)


@pytest.mark.parametrize(("mode", "key"), [("MIN_MAX", "max"), ("QUANTILES", "q99"), ("QUANTILE10", "q90")])
def test_a_range_without_width_is_refused(tmp_path, mode, key):
    folder = write(tmp_path / "policy", mode)
    tensors = load_file(folder / STATE_FILE)
    low = {"max": "min", "q99": "q01", "q90": "q10"}[key]
    tensors[f"action.{key}"] = tensors[f"action.{low}"].clone()
    save_file(tensors, folder / STATE_FILE)
    with pytest.raises(BadInput, match=rf"action\.{key} above action\.{low}"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.append({"registry_name": "map_delta_action_to_robot_action"}), "map_delta_action_to_robot_action"),
        (lambda s: s.append({"class": "my.own.Step"}), "Step"),
        (lambda s: s.append({"config": {}}), "list of steps"),
        (lambda s: s.append(s[0]), "each step once"),
        (lambda s: s[0]["config"].update(norm_map={"STATE": "LOG"}), "LOG"),
        (lambda s: s[0]["config"].update(norm_map=[1]), "norm_map"),
        (lambda s: s[0].update(state_file="../secret.safetensors"), "secret"),
        (lambda s: s.append({"registry_name": "device_processor", "config": {"float_dtype": "float16"}}), "float16"),
    ],
)
def test_a_step_that_we_do_not_know_is_refused_by_name(folder, change, named):
    edit(folder / "policy_preprocessor.json", lambda v: change(v["steps"]))
    with pytest.raises(BadInput, match=named):
        open_folder(folder)


def test_a_setting_of_another_type_is_refused(folder):
    edit(folder / "config.json", lambda v: v.update(chunk_size="many", pre_norm=1, ratio=2))
    opened = open_folder(folder)
    assert opened.setting("ratio", 1.0) == 2.0
    assert opened.setting("absent", 7) == 7
    for name, default in (("chunk_size", 1), ("pre_norm", False)):
        with pytest.raises(BadInput, match=name):
            opened.setting(name, default)
