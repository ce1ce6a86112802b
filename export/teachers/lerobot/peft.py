"""LoRA adapters of the PEFT library, merged into the weights they were trained on.

merged W = W + scale * B @ A, with scale = alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA. Modules that were
trained whole replace those of the base. Anything else that PEFT can do is refused by its name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevla.errors import BadInput, explain
from export.teachers.lerobot.weights import PICKLES, Weights, keys_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Settings that change the merged weights, and the only values for which the formula above holds.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False, None),
    "arrow_config": (None,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva", None),  # the others change the base as well
}


@dataclass(frozen=True)
class Adapter:
    """An adapter folder."""

    config: Mapping[str, Any]
    weights: Weights
    base: Path

    def merged(self, base: Weights) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the base, with what the adapter makes of it.

        Raises:
            BadInput: the adapter has tensors that belong to nothing in the base, or of a shape that does not fit.
        """
        lora, whole = self._sorted(base)
        for key in base.files:
            tensor = base[key]
            if key in whole:
                replaced = self.weights[whole[key]]
                if replaced.shape != tensor.shape:
                    raise self._misfit(whole[key], tuple(replaced.shape), f"{tuple(tensor.shape)} as in the base")
                tensor = replaced
            if key in lora:
                tensor = self._add(lora[key], tensor)
            yield key, tensor

    def _sorted(self, base: Weights) -> tuple[dict[str, str], dict[str, str]]:
        """Base key -> path of its A and B; base key -> tensor that replaces it. Raises BadInput for all others."""
        lora: dict[str, str] = {}
        whole: dict[str, str] = {}
        for key in self.weights.files:
            path = key.removeprefix(_PREFIX)
            if match := re.fullmatch(r"(.+)\.lora_([AB])\.weight", path):
                target = f"{_module(match[1])}.weight"
                partner = key.replace(f".lora_{match[2]}.", f".lora_{'BA'['AB'.index(match[2])]}.")
                if f"{_module(match[1])}.in_proj_weight" in base:
                    raise _packed(key)
                if target not in base or partner not in self.weights:
                    raise self._misfit(key, "present", f"{target} in the base, and {partner}")
                lora[target] = key.rsplit(".lora_", 1)[0]
            else:
                target = _module(path.replace(".modules_to_save", "").replace(".default", ""))
                if ".lora_" in path or target not in base:
                    raise self._misfit(key, "present", "LoRA of a linear or convolution layer, or a tensor of the base")
                whole[target] = key
        return lora, whole

    def _add(self, path: str, weight: Tensor) -> Tensor:
        down, up = (self.weights[f"{path}.lora_{side}.weight"].float() for side in "AB")
        # A convolution's A has its kernel, its B a kernel of one.
        delta = (up.flatten(1) @ down.flatten(1)) if up.shape[1] == down.shape[0] else torch.zeros(0)
        if delta.numel() != weight.numel() or len(delta) != len(weight):
            raise self._misfit(f"{path}.lora_A/B", (tuple(down.shape), tuple(up.shape)), f"{tuple(weight.shape)} = B A")
        return (weight.float() + self._scale(path, down.shape[0]) * delta.reshape(weight.shape)).to(weight.dtype)

    def _scale(self, path: str, rank: int) -> float:
        name = _module(path.removeprefix(_PREFIX))
        patterns = self.config.get("alpha_pattern") or {}
        found = [alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", name)]
        alpha = float(found[0] if found else self.config["lora_alpha"])
        return alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank

    def _misfit(self, key: str, got: object, expected: str) -> BadInput:
        return BadInput(explain(f"{key} in {WEIGHTS}", expected, f"{got}", "use the base it was trained on"))


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter in a policy folder, or None: it is no adapter.

    Raises:
        BadInput: not plain LoRA, no safetensors, or the base is not on this machine.
    """
    if not (folder / CONFIG).is_file():
        return None
    try:
        config = json.loads((folder / CONFIG).read_text())
        float(config["lora_alpha"] if config.get("peft_type") == "LORA" else 0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(explain(CONFIG, "an adapter's settings", f"{error!r}", "fetch it again")) from error
    for name, allowed in _PLAIN.items():
        if name in config and config[name] not in allowed:
            todo = "merge it with merge_and_unload() of peft, then save the policy"
            raise BadInput(explain(f"{name} in {CONFIG}", f"{allowed[0]!r}", f"{config[name]!r}", todo))
    if not (folder / WEIGHTS).is_file():
        there = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
        raise BadInput(explain("adapter", WEIGHTS, f"{there or 'not there'}", "save it with safe_serialization=True"))
    weights = Weights(dict.fromkeys(keys_of(folder / WEIGHTS), folder / WEIGHTS))
    return Adapter(config, weights, _base(folder, config.get("base_model_name_or_path")))


def _base(folder: Path, name: object) -> Path:
    for path in (folder / str(name), Path(str(name))):
        if name and path.is_dir():
            return path
    todo = f"fetch it and write its path into {CONFIG}"
    raise BadInput(explain(f"base_model_name_or_path in {CONFIG}", "a policy folder here", f"{name!r}", todo))


def _packed(key: str) -> BadInput:
    # peft 0.21 adds the share of such a layer's output projection twice: B A alone would not be what it trained.
    todo = "merge it with merge_and_unload() of the peft that trained it, then save the policy"
    return BadInput(explain(f"{key} in {WEIGHTS}", "LoRA of linear or convolution layers", "of packed attention", todo))


def _module(path: str) -> str:
    return path.replace(".base_layer", "")
