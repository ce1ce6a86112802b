"""LoRA is merged by its formula; what the formula does not cover is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevla.errors import BadInput
from export.teachers.lerobot.folder import open_folder
from tests.export.teachers.lerobot.tiny import weights, write

A, B = torch.arange(6.0).reshape(2, 3) / 7, torch.arange(8.0).reshape(4, 2) / 5
PREFIX = "base_model.model."
FIRST = {f"{PREFIX}first.lora_A.weight": A, f"{PREFIX}first.lora_B.weight": B}


@pytest.fixture
def adapter(tmp_path):
    """adapter(tensors, **settings): a folder beside its base."""
    write(tmp_path / "base")

    def make(tensors, **settings):
        folder = tmp_path / "adapter"
        folder.mkdir()
        config = {"peft_type": "LORA", "lora_alpha": 6, "r": 2, "bias": "none", "base_model_name_or_path": "../base"}
        (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder

    return make


def merged(folder):
    return dict(open_folder(folder).tensors())


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 3.0),
        ({"use_rslora": True}, 6 / 2**0.5),
        ({"alpha_pattern": {"first": 10}}, 5.0),
        ({"alpha_pattern": {"second": 10}}, 3.0),
        ({"alpha_pattern": {"irst": 10}}, 3.0),  # a pattern names whole parts of a path
        ({"r": 64}, 3.0),  # the rank of a layer is that of its matrices
    ],
)
def test_the_share_of_a_linear_layer_is_scale_times_b_a(adapter, settings, scale):
    found, base = merged(adapter(FIRST, **settings)), weights()
    assert torch.allclose(found["first.weight"], base["first.weight"] + scale * B @ A)
    assert all(torch.equal(found[key], base[key]) for key in base if key != "first.weight")


def test_a_convolution_keeps_its_kernel(adapter, tmp_path):
    kernel = torch.randn(4, 3, 2, 2)
    save_file({**weights(), "conv.weight": kernel}, tmp_path / "base" / "model.safetensors")
    down, up = torch.randn(2, 3, 2, 2), torch.randn(4, 2, 1, 1)
    tensors = {f"{PREFIX}conv.lora_A.weight": down, f"{PREFIX}conv.lora_B.weight": up}
    picture = torch.randn(1, 3, 5, 5)
    wanted = torch.conv2d(picture, kernel) + 3 * torch.conv2d(torch.conv2d(picture, down), up)
    assert torch.allclose(torch.conv2d(picture, merged(adapter(tensors))["conv.weight"]), wanted, atol=1e-5)


def test_a_module_that_was_trained_whole_replaces_that_of_the_base(adapter):
    new = {f"{PREFIX}second.{kind}": weights()[f"second.{kind}"] + 1 for kind in ("weight", "bias")}
    found = merged(adapter({**FIRST, **new}, modules_to_save=["second"]))
    assert torch.equal(found["second.weight"], weights()["second.weight"] + 1)
    assert torch.equal(found["second.bias"], weights()["second.bias"] + 1)


def test_config_and_processors_may_lie_with_the_adapter(adapter, tmp_path):
    folder = adapter(FIRST)
    for path in (tmp_path / "base").iterdir():
        if path.name != "model.safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
            path.unlink()
    assert open_folder(folder).action_size == 2


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"lora_alpha": None}, "settings"),
        ({"base_model_name_or_path": "lerobot/act_somewhere"}, "act_somewhere"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path"),
    ],
)
def test_what_the_formula_does_not_cover_is_refused_by_name(adapter, settings, named):
    with pytest.raises(BadInput, match=named):
        open_folder(adapter(FIRST, **settings))


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({f"{PREFIX}third.lora_A.weight": A, f"{PREFIX}third.lora_B.weight": B}, r"third\.weight"),
        ({f"{PREFIX}first.lora_A.weight": A}, r"first\.lora_B"),
        ({**FIRST, f"{PREFIX}first.lora_embedding_A": A.clone()}, "lora_embedding_A"),
        ({**FIRST, f"{PREFIX}first.lora_magnitude_vector": A[0].clone()}, "lora_magnitude_vector"),
        ({**FIRST, f"{PREFIX}first.lora_A.weight": A[:, :2].contiguous()}, r"first\.lora_A/B"),
        ({**FIRST, f"{PREFIX}second.bias": torch.zeros(9)}, r"second\.bias"),
    ],
)
def test_tensors_that_belong_to_nothing_in_the_base_are_refused_by_name(adapter, tensors, named):
    with pytest.raises(BadInput, match=named):
        merged(adapter(tensors))


def test_packed_attention_is_refused(adapter, tmp_path):
    save_file({**weights(), "mix.in_proj_weight": torch.zeros(4, 3)}, tmp_path / "base" / "model.safetensors")
    with pytest.raises(BadInput, match="packed attention"):
        merged(adapter({f"{PREFIX}mix.lora_A.weight": A, f"{PREFIX}mix.lora_B.weight": B}))


def test_an_adapter_as_a_pickle_is_refused(adapter):
    folder = adapter(FIRST)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(BadInput, match=r"adapter_model\.bin"):
        open_folder(folder)


def test_the_hash_covers_the_adapter(adapter, tmp_path):
    folder = adapter(FIRST)
    first = open_folder(folder).sha256
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({key: value + 1 for key, value in tensors.items()}, folder / "adapter_model.safetensors")
    assert first not in (open_folder(folder).sha256, open_folder(tmp_path / "base").sha256)
