"""Which adapter serves which model, and how one is opened. Nothing is fetched, nothing is unpickled."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from export.structures.backbone import Backbone

FAMILIES = {  # `model_type` of a config.json -> module:class
    "gemma3": "gemma3:Gemma3",
    "idefics": "idefics:Idefics",
    "idefics3": "smolvlm:Idefics3",
    "internvl": "internvl:InternVL",
    "kosmos-2": "kosmos2:Kosmos2",
    "llava": "llava:Llava",
    "ours": "ours:Ours",
    "paligemma": "paligemma:PaliGemma",
    "qwen2_vl": "qwen2_vl:Qwen2VL",
    "smolvlm": "smolvlm:SmolVLM",
}


def adapter(family: str) -> type[Backbone]:
    """Raises BadInput: no adapter for that `model_type`."""
    if family not in FAMILIES:
        todo = "write an adapter of your own (docs/structures.md): some thirty statements"
        raise BadInput(explain("family of the language model", ", ".join(sorted(FAMILIES)), repr(family), todo))
    module, _, name = FAMILIES[family].partition(":")
    found: type[Backbone] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found


def open_backbone(folder: Path, picture: tuple[int, int]) -> Backbone:
    """The pre-trained model in a folder of transformers, in float32.

    Raises:
        BadInput: no config.json there, a family without an adapter, or weights that do not fit.
    """
    from transformers import AutoModel

    adapt = adapter(_family_of(folder))
    try:
        model, told = AutoModel.from_pretrained(
            folder, local_files_only=True, dtype="float32", use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        todo = "take the whole folder, with its .safetensors"
        raise BadInput(explain(f"{folder}", "a model that transformers opens", error, todo)) from error
    lacking = sorted(told["missing_keys"]) + [str(key) for key in told.get("mismatched_keys", ())]
    if lacking:
        got = f"without {', '.join(lacking[:6])}{' and more' if len(lacking) > 6 else ''}"
        raise BadInput(explain(f"{folder}", "every weight of the model", got, "take the whole folder"))
    return adapt(model.eval(), picture)


def random_backbone(config: Any, picture: tuple[int, int]) -> Backbone:
    """The same with random weights, from a config of transformers: to be trained, or to be filled from a checkpoint."""
    from transformers import AutoModel

    return adapter(config.model_type)(AutoModel.from_config(config).float().eval(), picture)


def _family_of(folder: Path) -> str:
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(told["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        todo = "pass the folder that save_pretrained() wrote"
        raise BadInput(explain(f"{folder}/config.json", "a JSON object with model_type", repr(error), todo)) from error
