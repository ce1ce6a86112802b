"""Folders as users have them: adapters, shards, old statistics, renamed cameras, FSDP; each made by the real tool."""

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevla.errors import BadInput
from export.teachers.lerobot.folder import open_folder
from export.teachers.load import load_policy
from tests.export.teachers.lerobot.layouts import to_old_layout
from tests_lerobot.build import make_policy
from tests_lerobot.compare import compare
from tests_lerobot.test_act import SMALL


@pytest.fixture
def made(tmp_path):
    return make_policy("act", tmp_path / "base", **SMALL)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": r".*encoder\.layers\.\d\.linear[12]", "r": 4, "lora_alpha": 8},
        {"target_modules": ["linear1", "linear2", "action_head"], "r": 4, "lora_alpha": 8, "use_rslora": True},
        {"target_modules": ["linear1"], "r": 4, "rank_pattern": {"encoder.layers.1.linear1": 2},
         "alpha_pattern": {"encoder.layers.0.linear1": 31}},
        {"target_modules": ["encoder_img_feat_input_proj", "layer4.1.conv2", "downsample.0"], "r": 3, "lora_alpha": 6},
        {"target_modules": ["linear1"], "r": 4, "modules_to_save": ["action_head", "decoder_pos_embed"]},
    ],
    ids=str,
)  # fmt: skip
def test_an_adapter_of_the_real_peft_is_merged_as_it_runs_there(made, settings):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(made.policy, LoraConfig(**settings))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
    folder = made.folder.parent / "adapter"
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "../base"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    raw = made.observations()
    batch = made.batch(raw[0])
    model.eval()
    with torch.no_grad():
        theirs = np.asarray(made.postprocessor(model.base_model.model.predict_action_chunk(batch)))
    compare(folder, raw, theirs)
    with torch.no_grad():
        plain = model.unload().predict_action_chunk(batch)
    assert np.abs(np.asarray(made.postprocessor(plain)) - theirs).max() > 1e-2, "the adapter changes nothing"


def test_an_adapter_on_packed_attention_is_refused_because_peft_adds_one_share_twice(made):
    from peft import LoraConfig, get_peft_model

    plain = {k: v.clone() for k, v in made.policy.state_dict().items()}
    model = get_peft_model(made.policy, LoraConfig(target_modules=["self_attn"], r=2, lora_alpha=2))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                tensor.fill_(0.1)
    folder = made.folder.parent / "adapter"
    model.save_pretrained(folder)
    key = "model.encoder.layers.0.self_attn.out_proj.weight"
    added = model.merge_and_unload().state_dict()[key] - plain[key]
    assert torch.allclose(added, torch.full_like(added, 2 * 2 * 0.1 * 0.1))  # B A would be 2 * 0.1 * 0.1
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "../base"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="packed attention"):
        load_policy(folder)


def test_shards_of_the_hub_library_are_read(made):
    from huggingface_hub import save_torch_state_dict

    raw = made.observations()
    theirs = made.chunk(raw)
    (made.folder / "model.safetensors").unlink()
    save_torch_state_dict(made.policy.state_dict(), made.folder, max_shard_size="5MB")
    assert len(list(made.folder.glob("model-*.safetensors"))) > 3
    compare(made.folder, raw, theirs)


@pytest.mark.parametrize("modes", [{}, {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"}], ids=str)
def test_statistics_inside_old_weights_are_those_that_the_library_migrates(tmp_path, modes):
    from lerobot.processor.migrate_policy_normalization import extract_normalization_stats

    made = make_policy("act", tmp_path / "base", cameras={"front_left": (64, 64)}, modes=modes, **SMALL)
    raw = made.observations()
    old = to_old_layout(made.folder, tmp_path / "old")
    found = extract_normalization_stats(load_file(old / "model.safetensors"))
    state = load_file(made.folder / "policy_preprocessor_step_3_normalizer_processor.safetensors")
    for feature in ("observation.state", "action"):
        for name, values in found[feature].items():
            assert torch.equal(values, state[f"{feature}.{name}"])
    compare(old, raw, made.chunk(raw))


def test_renamed_cameras_are_asked_for_by_the_name_in_the_dataset(made):
    path = made.folder / "policy_preprocessor.json"
    steps = json.loads(path.read_text())
    steps["steps"][0]["config"]["rename_map"] = {"observation.images.front": "observation.images.top"}
    path.write_text(json.dumps(steps))
    assert open_folder(made.folder).cameras == ("front",)
    from lerobot.policies.factory import make_pre_post_processors

    before, after = make_pre_post_processors(made.policy.config, pretrained_path=str(made.folder))
    raw = made.observations()
    raw[0]["images"]["front"] = raw[0]["images"].pop("top")
    renamed = type(made)(made.policy, before, after, made.folder, {"front": (64, 64)}, made.state, 0)
    compare(made.folder, raw, renamed.chunk(raw))


def test_the_command_named_for_fsdp_shards_makes_a_folder_that_loads(made):
    import torch.distributed.checkpoint as dcp

    raw = made.observations()
    theirs = made.chunk(raw)
    (made.folder / "model.safetensors").unlink()
    state = {"model": {k: v.clone() for k, v in made.policy.state_dict().items()}}
    dcp.save(state, checkpoint_id=made.folder / "pytorch_model_fsdp_0", no_dist=True)
    with pytest.raises(BadInput, match="accelerate merge-weights") as error:
        load_policy(made.folder)
    command = shlex.split(str(error.value).split("convert them once: ")[1].rstrip("."))
    assert command[0] == "accelerate"
    program = shutil.which("accelerate", path=str(sys.prefix) + "/bin")
    subprocess.run([program, *command[1:]], check=True, capture_output=True, timeout=300)
    compare(made.folder, raw, theirs)


def test_a_policy_saved_without_statistics_is_refused_where_the_library_passes_numbers_through(made):
    path = made.folder / "policy_preprocessor_step_3_normalizer_processor.safetensors"
    save_file({k: v for k, v in load_file(path).items() if not k.startswith("observation.state")}, path)
    with pytest.raises(BadInput, match=r"observation\.state\.mean"):
        load_policy(made.folder)
