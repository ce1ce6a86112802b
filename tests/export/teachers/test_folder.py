"""A teacher on disk: half-precision weights that come back, and one clear error for everything else."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevla.errors import BadInput
from export.teachers.folder import load_teacher, save_teacher
from tests.export.tiny import teacher_meta, tiny_model, write_teacher


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("saved") / "teacher")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "teacher")


def test_weights_come_back_as_their_half_precision_values(saved):
    model, loaded = tiny_model(), load_teacher(saved)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight.half().float()), name
    assert loaded.model.config == model.config
    assert not loaded.model.training
    assert all(tensor.dtype == torch.float16 for tensor in load_file(saved / "model.safetensors").values())


def test_what_is_needed_to_feed_it_comes_back_too(saved):
    loaded = load_teacher(saved)
    assert loaded.vocabulary.words == tuple(teacher_meta()["words"])
    assert loaded.state_mean.tolist() == np.array(teacher_meta()["state_mean"], np.float32).tolist()
    assert loaded.state_std.dtype == np.float32
    assert loaded.parameters == sum(p.numel() for p in loaded.model.parameters())


def test_the_same_weights_have_the_same_hash_and_others_another(saved, tmp_path):
    sha256 = load_teacher(saved).sha256
    assert load_teacher(write_teacher(tmp_path / "same")).sha256 == sha256
    save_teacher(tmp_path / "other", tiny_model(seed=1), teacher_meta())
    assert load_teacher(tmp_path / "other").sha256 != sha256


def test_nothing_half_written_is_left_beside_it(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(BadInput, match=name):
        load_teacher(copy)


def test_no_folder_at_all_is_refused(tmp_path):
    with pytest.raises(BadInput, match="check the path"):
        load_teacher(tmp_path / "none")


@pytest.mark.parametrize("keep", [0, 4, 200, -100])
def test_truncated_weights_are_refused(copy, keep):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(BadInput, match="model"):
        load_teacher(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(copy, value):
    tensors = load_file(copy / "model.safetensors")
    tensors["state.0.weight"][0, 0] = value
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(BadInput, match=r"NaN or infinity in state\.0\.weight"):
        load_teacher(copy)


def test_weights_of_another_shape_or_missing_ones_are_refused(copy):
    tensors = load_file(copy / "model.safetensors")
    save_file({**tensors, "norm.weight": torch.zeros(7)}, copy / "model.safetensors")
    with pytest.raises(BadInput, match=r"norm\.weight"):
        load_teacher(copy)
    del tensors["norm.weight"]
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(BadInput, match=r"norm\.weight"):
        load_teacher(copy)


def change(copy, **values):
    config = json.loads((copy / "config.json").read_text())
    config.update(values)
    (copy / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize(
    "values",
    [
        {"schema": "edgevla.flow-teacher/9"},
        {"schema": None},
        {"config": None},
        {"config": {"vocabulary": 9, "wings": 2}},
        {"config": []},
        {"words": None},
        {"words": ["open"]},  # the embedding has more rows
        {"state_mean": None},
        {"state_mean": [0.0, 0.0]},
        {"state_std": ["a", "b", "c", "d"]},
        {"state_std": [0.1, 0.0, 0.1, 0.1]},
    ],
)
def test_a_config_that_lacks_something_or_disagrees_is_refused(copy, values):
    change(copy, **values)
    with pytest.raises(BadInput, match="teacher"):
        load_teacher(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_a_config_that_is_no_table_is_refused(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(BadInput, match="teacher"):
        load_teacher(copy)
