"""A policy of the family behind the interface that all teachers share, and its folder.

config.json          schema, structure, backbone (family and its sizes or config), spec, words
model.safetensors    every weight; where that was asked for, in several files (`export.shards`)
tokenizer.json       of a pre-trained backbone; a policy from scratch brings its words
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor

from edgevla.errors import BadInput, explain
from edgevla.policy.tokens import Vocabulary
from export.onnx.stages import StageSpec
from export.shards import hash_of, load_shards, save_shards
from export.structures.backbone import Backbone
from export.structures.config import StructureConfig
from export.structures.families import random_backbone
from export.structures.families.ours import Ours, OwnModel, OwnSizes
from export.structures.policy import StructurePolicy
from export.structures.stages import stages_of
from export.students.interface import Student, spec_from_dict, spec_to_dict
from export.teachers.interface import Inputs, TeacherPolicy, TeacherSpec
from export.teachers.lerobot.words import FILE, Words
from export.teachers.noise import drawn

SCHEMA = "edgevla.structure/1"
WEIGHTS = "model.safetensors"


class StructureTeacher(TeacherPolicy):
    """A trained policy of the family. `words`: of a policy from scratch; else `tokenizer`, a tokenizer.json. `noise`:
    seed and scale of the z that was chosen for it.
    """

    def __init__(
        self, policy: StructurePolicy, spec: TeacherSpec, words: tuple[str, ...] = (), tokenizer: Path | None = None,
        sha256: str = "", noise: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.policy, self.spec, self.known, self.sha256, self.noise = policy, spec, words, sha256, noise
        self._tokenizer = tokenizer

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        policy, count = self.policy, self.policy.config.pictures
        there = inputs["token_mask"] if "token_mask" in inputs else (inputs["tokens"] > 0).float()
        rows = {
            "image": inputs["image"].unflatten(1, (-1, count)),
            "state": inputs["state"].unflatten(1, (-1, policy.config.state)),
        }
        words = policy.backbone.hear(inputs["tokens"])
        if policy.head is None:
            return policy.look(rows["image"][:, -1]), words, there, rows["state"][:, -1]
        return (policy.contexts(rows["image"], words, there, rows["state"])[:, -1],)

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        if self.policy.head is None:
            vision, words, there, state = context
            return self.policy.speak(vision, words, there, state, noise, prefix, mask)
        return self.policy.head.answer(context[0], noise, prefix, mask)

    def bundle_noise(self, seed: int) -> tuple[npt.NDArray[np.float32], float]:
        """The z of the bundle, (H, Z), and the deviation of all others: as chosen for this policy (`noise` of its
        config), else 0, the middle of those that the head learned from. A drawn one may serve a task badly.
        """
        chosen = self.noise or {"seed": seed, "scale": 0.0}
        return drawn((self.spec.horizon, self.spec.noise), int(chosen["seed"]), float(chosen["scale"])), 1.0

    def features(self, context: tuple[Tensor, ...]) -> Tensor | None:
        return None if self.policy.head is None else context[0]

    def tokenize(self, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        if self.known:
            tokens = Vocabulary(self.known, self.spec.max_tokens).encode(text)
            return tokens, (tokens > 0).astype(np.float32)
        backbone = self.policy.backbone
        return Words(self._tokenizer, backbone.family, self.spec.max_tokens, backbone.vocabulary).encode(text)

    def stages(self) -> list[StageSpec]:
        return stages_of(self.policy, self.spec.max_tokens)

    @property
    def depth(self) -> float:
        """Of a student, where nothing is asked: half the language layers of a policy from scratch."""
        return 0.5 if isinstance(self.policy.backbone, Ours) else 1.0

    @property
    def can_be_cut(self) -> bool:
        """Whether `pruned` makes a student: not of RoboVLMs' own networks, nor where the language model speaks."""
        return type(self.policy) is StructurePolicy and self.policy.head is not None

    def pruned(self, depth: float, d_max: int) -> Student:
        """See `export.students.pruned.Prunable`."""
        from export.structures.student import cut  # it wraps a teacher of this class

        return cut(self, depth, d_max)

    def save(self, folder: Path, half: bool = False, most_bytes: int | None = None) -> None:
        """Weights first, then the config, each whole or not at all. half: rounded to float16, here too, so that what
        is kept is what plays. most_bytes: of a file. Raises BadInput: no room.
        """
        if half:
            self.policy.half().float()
        told = {
            "schema": SCHEMA,
            "structure": self.policy.config.to_dict(),
            "backbone": backbone_to_dict(self.policy.backbone),
            "spec": spec_to_dict(self.spec),
            "words": list(self.known),
            **({"noise": dict(self.noise)} if self.noise else {}),
        }
        weights = {name: value.detach().clone().contiguous() for name, value in self.policy.state_dict().items()}
        if half:
            weights = {n: value.half() if value.is_floating_point() else value for n, value in weights.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_shards(weights, folder / WEIGHTS, None, most_bytes)
            if self._tokenizer is not None:
                (folder / FILE).write_bytes(self._tokenizer.read_bytes())
            (folder / ".part.json").write_text(json.dumps(told, indent=1) + "\n")
            os.replace(folder / ".part.json", folder / "config.json")
        except (OSError, SafetensorError) as error:
            raise BadInput(explain("cannot write the policy", f"room in {folder}", error, "free space")) from error


def load_structure(folder: Path, tokenizer: Path | None = None) -> StructureTeacher:
    """What `StructureTeacher.save` wrote. tokenizer: a folder with another tokenizer.json.

    Raises:
        BadInput: a file is missing, altered, or disagrees with the config.
    """
    try:
        told = json.loads((folder / "config.json").read_text())
        sha256 = hash_of(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        todo = "check the path"
        raise BadInput(explain("policy folder", f"config.json and {WEIGHTS}", f"{folder}: {error}", todo)) from error
    try:
        config = StructureConfig.from_dict(told["structure"])
        policy = StructurePolicy(config, backbone_from_dict(told["backbone"]))
        spec, words = spec_from_dict(told["spec"]), tuple(map(str, told["words"]))
        noise = _chosen(told.get("noise"))
        weights, _ = load_shards(folder / WEIGHTS)
        policy.load_state_dict(weights)
    except (SafetensorError, RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise BadInput(explain(f"{folder}", "weights and sizes of one policy", said, "save it again")) from error
    bad = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise BadInput(explain(f"{folder}", "finite weights", f"NaN or infinity in {bad[0]}", "train it again"))
    where = tokenizer or (folder if (folder / FILE).is_file() else None)
    file = None if where is None else where / FILE
    return StructureTeacher(policy, spec, words, file, sha256, noise)


def _chosen(told: Any) -> dict[str, Any] | None:
    """What `examples.metaworld.mt.starts` wrote; nothing: none was chosen. Raises ValueError, TypeError, KeyError."""
    if told is None:
        return None
    seed, scale = int(told["seed"]), float(told["scale"])
    if seed < 0 or not 0.0 <= scale <= 10.0:
        raise ValueError(f"noise: expected seed >= 0 and scale 0 .. 10, got {seed} and {scale:g}")
    return dict(told)


def backbone_to_dict(backbone: Backbone) -> dict[str, Any]:
    """Family, size of the picture, and the sizes of its model; JSON."""
    sizes = backbone.model.sizes if isinstance(backbone, Ours) else backbone.model.config
    return {"family": backbone.family, "picture": list(backbone.picture), "sizes": sizes.to_dict()}


def backbone_from_dict(told: Mapping[str, Any]) -> Backbone:
    """With random weights, to be filled. Raises BadInput: no adapter for that family."""
    height, width = told["picture"]
    if told["family"] == Ours.family:
        sizes = OwnSizes(**{**told["sizes"], "picture": (height, width)})
        return Ours(OwnModel(sizes), sizes.picture)
    from transformers import CONFIG_MAPPING

    known = CONFIG_MAPPING[told["sizes"]["model_type"]]
    return random_backbone(known.from_dict(told["sizes"]), (height, width))
