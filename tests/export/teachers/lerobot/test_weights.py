"""Safetensors in one file or in shards get into a module whole; everything else is refused by name."""

import json
import shlex

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgevla.errors import BadInput
from export.teachers.lerobot.weights import load_tensors, open_weights, sha256_of
from tests.export.teachers.lerobot.tiny import Net, weights


@pytest.fixture
def folder(tmp_path):
    save_file(weights(), tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def sharded(tmp_path):
    tensors = weights()
    names = {key: f"model-0000{1 + key.startswith('second')}-of-00002.safetensors" for key in tensors}
    for file in set(names.values()):
        save_file({key: value for key, value in tensors.items() if names[key] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return tmp_path


def load(folder, net=None, drop=(), **more):
    source = {**{key: open_weights(folder)[key] for key in open_weights(folder).files}, **more}
    load_tensors(net or Net(), [(k, v) for k, v in source.items() if k not in drop], "weights of act")


def test_shards_hold_the_same_as_one_file(sharded):
    opened = open_weights(sharded)
    assert len(set(opened.files.values())) == 2
    for key, value in weights().items():
        assert torch.equal(opened[key], value)


def test_a_shard_that_is_missing_or_lacks_a_tensor_is_refused(sharded):
    save_file({"other": torch.zeros(1)}, sharded / "model-00002-of-00002.safetensors")
    with pytest.raises(BadInput, match=r"second.* in model-00002"):
        open_weights(sharded)
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BadInput, match="model-00002"):
        open_weights(sharded)


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": {"a": "../x.safetensors"}}'])
def test_an_index_that_is_none_or_leads_out_of_the_folder_is_refused(sharded, index):
    (sharded / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadInput, match="index"):
        open_weights(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "policy.pt", "last.ckpt", "model.pkl", "net.pth"])
def test_a_pickle_is_refused_unopened(tmp_path, name):
    (tmp_path / name).write_bytes(b"never read")
    with pytest.raises(BadInput, match=f"{name}, a pickle"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("shard", "place"),
    [
        ("pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0"),
        ("__0_0.distcp", ""),
        ("pytorch_model_fsdp.bin", ""),
    ],
)
def test_fsdp_shards_are_refused_with_the_command_that_converts_them(tmp_path, shard, place):
    folder = tmp_path / "my policy"
    (folder / shard).parent.mkdir(parents=True)
    (folder / shard).write_bytes(b"")
    with pytest.raises(BadInput, match="FSDP") as error:
        open_weights(folder)
    command = shlex.split(str(error.value).split("once: ")[1].rstrip("."))
    assert command[:2] == ["accelerate", "merge-weights"]
    assert command[2:] == [str(folder / (place or shard)) if "bin" in shard else str(folder / place), str(folder)]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"model\.safetensors or"):
        open_weights(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, -3])
def test_a_file_that_is_cut_off_is_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        open_weights(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_by_name(folder, value):
    tensors = load_file(folder / "model.safetensors")
    tensors["first.weight"][1, 1] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"(?s)first\.weight.*NaN or infinity in model\.safetensors"):
        load(folder)


def test_a_missing_an_extra_and_a_misshapen_tensor_are_refused_by_name(folder):
    with pytest.raises(BadInput, match=r"(?s)second\.bias 2.*not there"):
        load(folder, drop=("second.bias",))
    with pytest.raises(BadInput, match=r"first\.weight 4x3 and 1 more"):
        load(folder, drop=("first.weight", "second.weight"))
    with pytest.raises(BadInput, match=r"(?s)third.*no such tensor"):
        load(folder, third=torch.zeros(2))
    with pytest.raises(BadInput, match=r"(?s)first\.bias.*shape 4.*5"):
        load(folder, **{"first.bias": torch.zeros(5)})


def test_tied_parameters_may_come_under_one_of_their_names(folder):
    net = Net()
    net.twin = nn.Linear(3, 4)
    net.twin.weight = net.first.weight
    net.twin.bias = net.first.bias
    load(folder, net)
    assert torch.equal(net.twin.weight, weights()["first.weight"])


def test_half_precision_becomes_that_of_the_module(folder):
    net = Net()
    load(folder, net, **{"first.bias": weights()["first.bias"].half()})
    assert net.first.bias.dtype == torch.float32
    assert torch.equal(net.first.bias, weights()["first.bias"].half().float())


def test_the_hash_names_content_and_not_place(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    save_file(weights(), other / "model.safetensors")
    assert sha256_of([folder / "model.safetensors"]) == sha256_of([other / "model.safetensors"])
    (other / "model.safetensors").rename(other / "x.safetensors")
    assert sha256_of([folder / "model.safetensors"]) != sha256_of([other / "x.safetensors"])
