"""Policies whose answers the real library gave, rebuilt without it.

A ResNet-18 is 45 MB, so its weights are not in the tree: both sides make them from the names of the tensors, by a
generator whose bits numpy guarantees. What is recorded (`python -m tests_lerobot.record`): config and processors as
the library wrote them, names and shapes of its tensors, an observation, and its raw actions.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = Path(__file__).parent / "recorded"
JSONS = ("config.json", "policy_preprocessor.json", "policy_postprocessor.json")


def tensor_by_name(name: str, shape: Sequence[int]) -> Tensor:
    """float32 in a range that keeps a deep network alive: norms around 1, the rest by fan-in."""
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw((count + 1) // 2).view(np.uint32)[:count]
    unit = raw.astype(np.float32) / np.float32(2**31) - 1  # [-1, 1]
    if len(shape) < 2:
        around = 1.0 if name.endswith(("weight", "running_var")) else 0.0
        values = around + 0.3 * unit
    else:
        values = unit * np.sqrt(3.0 / (count / shape[0]), dtype=np.float32)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


@dataclass(frozen=True)
class Recorded:
    """One recorded policy."""

    texts: Mapping[str, Any]  # the three JSON files, adapter_config.json, and `tensors`: name -> shape
    arrays: Mapping[str, Tensor]

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}

    def write(self, folder: Path, mode: str | None = None) -> Path:
        """The policy folder as the library saved it; `mode`: every feature normalised so."""
        folder.mkdir(parents=True)
        for name in JSONS:
            (folder / name).write_text(json.dumps(with_mode(self.texts[name], mode)))
        exact = self.under("exact/")
        weights = {k: exact[k] if k in exact else tensor_by_name(k, s) for k, s in self.texts["tensors"].items()}
        save_file(weights, folder / "model.safetensors")
        for name in {key.split("/")[1] for key in self.arrays if key.startswith("state/")}:
            save_file(self.under(f"state/{name}/"), folder / name)
        return folder

    def observations(self) -> list[dict[str, Any]]:
        """Raw observations, oldest first, as `answers.inputs_of` takes them."""
        count = len({key.split("/")[1] for key in self.arrays if key.startswith("observation/")})
        made = []
        for i in range(count):
            one = {key: value.numpy() for key, value in self.under(f"observation/{i}/").items()}
            images = {key.removeprefix("image/"): value for key, value in one.items() if key.startswith("image/")}
            made.append({"images": images, "state": one["state"], "environment": one["environment"]})
        return made


def with_mode(text: Any, mode: str | None) -> Any:
    """The same JSON with one mode of normalisation for everything."""
    if mode is None or not isinstance(text, (dict, list)):
        return text
    if isinstance(text, list):
        return [with_mode(entry, mode) for entry in text]
    names = ("norm_map", "normalization_mapping")
    every = dict.fromkeys(("VISUAL", "STATE", "ENV", "ACTION"), mode)
    return {key: every if key in names else with_mode(value, mode) for key, value in text.items()}


def load_recorded(name: str) -> Recorded:
    return Recorded(
        json.loads((FOLDER / f"{name}.json").read_text()),
        load_file(FOLDER / f"{name}.safetensors"),
    )


def save_recorded(name: str, recorded: Recorded) -> None:
    FOLDER.mkdir(exist_ok=True)
    part = FOLDER / ".part"
    part.write_text(json.dumps(recorded.texts, indent=1) + "\n")
    os.replace(part, FOLDER / f"{name}.json")
    save_file({key: value.contiguous() for key, value in recorded.arrays.items()}, part)
    os.replace(part, FOLDER / f"{name}.safetensors")
