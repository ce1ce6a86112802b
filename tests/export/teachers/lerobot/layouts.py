"""The same policy in another layout, for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

STATS = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max")}


def to_old_layout(folder: Path, target: Path) -> Path:
    """Statistics as buffers inside the weights, as LeRobot wrote them before it had processors."""
    target.mkdir()
    shutil.copy(folder / "config.json", target)
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    state = load_file(next(folder.glob("policy_preprocessor_step_*.safetensors")))
    features = {**config["input_features"], **config["output_features"]}
    for feature, value in features.items():
        buffer = f"buffer_{feature.replace('.', '_')}"
        owners = (
            ["normalize_inputs"]
            if feature in config["input_features"]
            else ["unnormalize_outputs", "normalize_targets"]
        )
        for stat in STATS.get(config["normalization_mapping"].get(value["type"], "IDENTITY"), ()):
            for owner in owners:
                tensors[f"{owner}.{buffer}.{stat}"] = state[f"{feature}.{stat}"].clone()
    save_file(tensors, target / "model.safetensors")
    return target
