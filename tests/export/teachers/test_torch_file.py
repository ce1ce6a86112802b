"""Checkpoints of torch.save: tensors come out by their names, and nothing of the file is run."""

import argparse

import pytest
import torch

from edgevla.errors import BadInput
from export.teachers.torch_file import load_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2])}


def write(path, value):
    torch.save(value, path)
    return path


@pytest.mark.parametrize("top", [None, "state_dict", "model_state_dict"])
@pytest.mark.parametrize("wrapped", ["", "module.", "module.module."])
def test_tensors_come_out_by_the_names_of_the_module(tmp_path, top, wrapped):
    state = {wrapped + name: tensor for name, tensor in STATE.items()}
    found = load_state_dict(write(tmp_path / "x.pt", state if top is None else {top: state, "epoch": 3}))
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_module_that_is_called_module_keeps_its_name(tmp_path):
    found = load_state_dict(write(tmp_path / "x.pt", {"module.w": torch.ones(1), "head.w": torch.ones(1)}))
    assert set(found) == {"module.w", "head.w"}


def test_a_prefix_chooses_one_part(tmp_path):
    path = write(tmp_path / "x.pt", {"model.w": torch.ones(1), "critic.w": torch.zeros(1)})
    assert load_state_dict(path, "model.") == {"w": torch.ones(1)}
    with pytest.raises(BadInput, match=r"names that begin with actor\."):
        load_state_dict(path, "actor.")


def test_code_in_the_file_is_refused_and_not_run(tmp_path):
    class Touch:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = write(tmp_path / "x.ckpt", {"state_dict": STATE, "callback": Touch()})
    with pytest.raises(BadInput, match="would run code of the file") as caught:
        load_state_dict(path)
    assert not (tmp_path / "ran").exists()
    assert "torch.save(model.state_dict()" in str(caught.value)


def test_the_class_that_would_be_loaded_is_named(tmp_path):
    path = write(tmp_path / "x.ckpt", {"state_dict": STATE, "hyper_parameters": argparse.Namespace(lr=1)})
    with pytest.raises(BadInput, match=r"argparse\.Namespace"):
        load_state_dict(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_file_that_is_cut_off_is_refused(tmp_path, share):
    path = write(tmp_path / "x.pt", STATE)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BadInput, match="a whole file"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"optimizer": {"lr": 1.0}, "epoch": 3}, "optimizer, epoch that are no tensors"),
        ({}, "0 entries"),
        ([torch.ones(2)], "list"),
        ({"w": torch.tensor([1.0, float("nan")])}, "NaN"),
    ],
)
def test_a_file_without_sound_weights_is_refused(tmp_path, value, told):
    with pytest.raises(BadInput, match=told):
        load_state_dict(write(tmp_path / "x.pt", value))


def test_no_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        load_state_dict(tmp_path / "x.pt")
    with pytest.raises(BadInput, match=r"zero_to_fp32\.py"):
        load_state_dict(tmp_path)
