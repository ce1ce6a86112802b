"""Records what the real library answers, for the tests that run without it: `python -m tests_lerobot.record`.

In the environment of `make test-lerobot`. Writes tests/export/teachers/lerobot/recorded, some 0.3 MB, in half a minute.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_model
from torch import Tensor

from tests.export.teachers.lerobot.recorded import JSONS, Recorded, save_recorded, tensor_by_name
from tests_lerobot.build import Made, make_policy

MODES = ("MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY")
CAMERAS = {"top": (48, 64), "wrist": (48, 64)}
ACT = {
    "dim_model": 32, "n_heads": 4, "dim_feedforward": 48, "chunk_size": 6, "n_action_steps": 6, "n_encoder_layers": 2,
    "n_vae_encoder_layers": 1, "pretrained_backbone_weights": None,
}  # fmt: skip
DIFFUSION = {
    "down_dims": (16, 32), "horizon": 8, "n_action_steps": 4, "num_inference_steps": 5, "num_train_timesteps": 20,
    "resize_shape": (40, 56), "crop_ratio": 0.9, "spatial_softmax_num_keypoints": 6, "noise_scheduler_type": "DDIM",
}  # fmt: skip
STEPS = 5


def named(made: Made) -> Made:
    """The same policy with the weights that its tensor names give, saved again."""
    state = made.policy.state_dict()
    new = {key: value if _exact(key, value) else tensor_by_name(key, value.shape) for key, value in state.items()}
    made.policy.load_state_dict(new)
    save_model(made.policy, str(made.folder / "model.safetensors"))
    return made


def _exact(key: str, value: Tensor) -> bool:
    """Tables that the library computes: recorded as they are."""
    return key.endswith(("pos_grid", "pos_enc")) or not value.is_floating_point()


def texts(made: Made) -> dict[str, Any]:
    weights = load_file(made.folder / "model.safetensors")
    files = {name: json.loads((made.folder / name).read_text()) for name in JSONS}
    return {**files, "tensors": {key: list(value.shape) for key, value in weights.items()}}


def arrays(made: Made, observations: list[dict[str, Any]]) -> dict[str, Tensor]:
    found = {f"exact/{k}": v for k, v in load_file(made.folder / "model.safetensors").items() if _exact(k, v)}
    for path in made.folder.glob("policy_*.safetensors"):
        found |= {f"state/{path.name}/{key}": value for key, value in load_file(path).items()}
    for i, raw in enumerate(observations):
        named_arrays = {**{f"image/{name}": image for name, image in raw["images"].items()}, **raw}
        del named_arrays["images"]
        found |= {f"observation/{i}/{key}": torch.from_numpy(value) for key, value in named_arrays.items()}
    return found


def in_mode(made: Made, mode: str) -> Made:
    """The same policy with every feature normalised in one way, by processors that the library loads from JSON."""
    from lerobot.policies.factory import make_pre_post_processors

    from tests.export.teachers.lerobot.recorded import with_mode

    for name in JSONS[1:]:
        path = made.folder / name
        path.write_text(json.dumps(with_mode(json.loads(path.read_text()), mode)))
    before, after = make_pre_post_processors(made.policy.config, pretrained_path=str(made.folder))
    return dataclasses.replace(made, preprocessor=before, postprocessor=after)


def record_act(folder: Path) -> None:
    made = named(make_policy("act", folder, cameras=CAMERAS, environment=2, **ACT))
    raw = made.observations(seed=1)
    said, kept = texts(made), arrays(made, raw)
    kept["answer/default"] = torch.from_numpy(made.chunk(raw))
    adapter, kept["answer/adapter"] = adapted(made, raw, folder / "adapter")
    kept |= {
        f"adapter/{key}": value for key, value in load_file(folder / "adapter" / "adapter_model.safetensors").items()
    }
    made = named(make_policy("act", folder, cameras=CAMERAS, environment=2, **ACT))
    for mode in MODES:
        kept[f"answer/{mode}"] = torch.from_numpy(in_mode(made, mode).chunk(raw))
    save_recorded("act", Recorded({**said, "adapter_config.json": adapter}, kept))


def adapted(made: Made, raw: list[dict[str, Any]], folder: Path) -> tuple[dict[str, Any], Tensor]:
    """A real LoRA adapter of all kinds that are merged, and the answer of the policy that carries it."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        target_modules=["linear1", "linear2", "encoder_img_feat_input_proj"], modules_to_save=["action_head"],
        r=2, lora_alpha=3, use_rslora=True, alpha_pattern={"encoder.layers.0.linear1": 5},
    )  # fmt: skip
    batch = made.batch(raw[0])
    model = get_peft_model(made.policy, settings).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                tensor.add_(0.3 * tensor_by_name(name, tensor.shape))
        answer = made.postprocessor(model.base_model.model.predict_action_chunk(batch))
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    return {**config, "base_model_name_or_path": "../base"}, torch.from_numpy(np.asarray(answer, np.float32))


def record_diffusion(folder: Path) -> None:
    made = named(make_policy("diffusion", folder, cameras=CAMERAS, **DIFFUSION))
    raw, rows = made.observations(2, seed=1), torch.randn((2, 8, 4), generator=torch.Generator().manual_seed(3))
    kept = {**arrays(made, raw), "noise": rows, "answer/ddim": torch.from_numpy(made.chunk(raw, noise=rows))}
    said = texts(made)
    for mode in MODES:
        kept[f"answer/{mode}"] = torch.from_numpy(in_mode(made, mode).chunk(raw, noise=rows))
    other = named(make_policy("diffusion", folder, cameras=CAMERAS, **{**DIFFUSION, "noise_scheduler_type": "DDPM"}))
    torch.manual_seed(5)
    kept["answer/ddpm"] = torch.from_numpy(other.chunk(raw, noise=rows))
    torch.manual_seed(5)
    kept |= {f"fresh/{i}": torch.randn(rows.shape) for i in range(STEPS - 1)}
    save_recorded("diffusion", Recorded(said, kept))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        record_act(Path(folder) / "act")
        record_diffusion(Path(folder) / "diffusion")


if __name__ == "__main__":
    main()
