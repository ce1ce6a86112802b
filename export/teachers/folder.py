"""A teacher on disk: `config.json` (sizes, words, statistics, channels, timing) and `model.safetensors` (fp16)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgevla.errors import BadInput, explain
from edgevla.policy.tokens import Vocabulary
from export.teachers.reference import FlowTeacher, TeacherConfig

SCHEMA = "edgevla.flow-teacher/1"


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher with everything needed to feed it."""

    model: FlowTeacher
    vocabulary: Vocabulary
    state_mean: npt.NDArray[np.float32]
    state_std: npt.NDArray[np.float32]
    meta: dict[str, Any]
    sha256: str

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def save_teacher(folder: Path, model: FlowTeacher, meta: dict[str, Any]) -> None:
    """Writes weights as fp16, then the config, each atomically. `meta`: words, state_mean, state_std, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().to(torch.float16).contiguous() for name, p in model.state_dict().items()}
    save_file(weights, folder / ".part.safetensors")
    os.replace(folder / ".part.safetensors", folder / "model.safetensors")
    config = {"schema": SCHEMA, "config": model.config.to_dict(), **meta}
    (folder / ".part.json").write_text(json.dumps(config, indent=1) + "\n")
    os.replace(folder / ".part.json", folder / "config.json")


def load_teacher(folder: Path) -> Teacher:
    """Reads a teacher folder.

    Raises:
        BadInput: a file is missing, altered or disagrees with the config; the sentence names it.
    """
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    try:
        meta = json.loads(config_path.read_text())
        weights_bytes = weights_path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(
            explain("teacher folder", "config.json and model.safetensors", f"{folder}: {error}", "check the path")
        ) from error
    schema = meta.get("schema") if isinstance(meta, dict) else None
    if schema != SCHEMA:
        raise BadInput(explain("teacher config", f"schema {SCHEMA}", repr(schema), "export it again"))
    model = _load_model(meta, weights_path)
    mean, std = _statistics(meta, model.config)
    return Teacher(
        model=model,
        vocabulary=Vocabulary(tuple(meta["words"]), model.config.max_tokens),
        state_mean=mean,
        state_std=std,
        meta=meta,
        sha256=hashlib.sha256(weights_bytes).hexdigest(),
    )


def _statistics(meta: dict[str, Any], config: TeacherConfig) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and deviation of the state (S,), the words counted against the embedding. Raises BadInput."""
    try:
        mean, std = (np.array(meta[key], np.float32) for key in ("state_mean", "state_std"))
        words = len(meta["words"]) + 1  # and the padding
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            explain("teacher config", "words, state_mean, state_std", f"{error!r}", "export it again")
        ) from error
    sound = np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()
    if not sound or mean.shape != (config.state,) or std.shape != (config.state,) or words != config.vocabulary:
        expected = f"{config.state} finite means and positive deviations, {config.vocabulary - 1} words"
        got = f"{mean.tolist()}, {std.tolist()}, {words - 1} words"
        raise BadInput(explain("teacher config", expected, got, "export it again"))
    return mean, std


def _load_model(meta: dict[str, Any], weights_path: Path) -> FlowTeacher:
    try:
        model = FlowTeacher(TeacherConfig(**meta["config"]))
        weights = {name: tensor.float() for name, tensor in load_file(weights_path).items()}
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise BadInput(
            explain(
                "teacher weights",
                "the tensors of config.json",
                f"{weights_path.name}: {error}",
                "fetch it again",
            )
        ) from error
    bad = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise BadInput(explain("teacher weights", "finite numbers", f"NaN or infinity in {bad[0]}", "fetch it again"))
    return model.eval()
