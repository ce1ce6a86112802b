"""A policy folder of a few numbers, and the small module that its weights belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

STATE_FILE = "policy_preprocessor_step_0_normalizer_processor.safetensors"


class Net(nn.Module):
    """Two layers and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("table", torch.zeros(5))


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {k: torch.randn(v.shape, generator=generator) for k, v in Net().state_dict().items()}


def statistics() -> dict[str, torch.Tensor]:
    """State (3,) and action (2,), all that the modes need."""
    values = {"mean": 1.0, "std": 2.0, "min": -1.0, "max": 3.0, "q01": -0.5, "q99": 2.5, "q10": 0.0, "q90": 2.0}
    sizes = {"observation.state": 3, "action": 2}
    return {f"{key}.{stat}": torch.full((n,), value) for key, n in sizes.items() for stat, value in values.items()}


def config() -> dict[str, Any]:
    return {
        "type": "act",
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [3]},
            "observation.images.top": {"type": "VISUAL", "shape": [3, 8, 6]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "normalization_mapping": modes("MEAN_STD"),
    }


def modes(mode: str) -> dict[str, str]:
    return {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}


def steps(mode: str, **more: Any) -> list[dict[str, Any]]:
    """Steps of a processor; `more` goes into the config of the one that normalises."""
    every = {**config()["input_features"], **config()["output_features"]}
    settings = {"eps": 1e-8, "features": every, "norm_map": modes(mode), **more}
    return [{"registry_name": "normalizer_processor", "config": settings, "state_file": STATE_FILE}]


def write(folder: Path, mode: str = "MEAN_STD") -> Path:
    folder.mkdir(parents=True)
    before = steps(mode)
    after = [{**before[0], "registry_name": "unnormalizer_processor"}]
    for name, value in (
        ("config", config()),
        ("policy_preprocessor", {"name": "policy_preprocessor", "steps": before}),
        ("policy_postprocessor", {"name": "policy_postprocessor", "steps": after}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value))
    save_file(weights(), folder / "model.safetensors")
    save_file(statistics(), folder / STATE_FILE)
    return folder
