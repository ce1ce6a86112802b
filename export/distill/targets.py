"""What the teacher answers, cached: (observation, noise z, prefix length) -> endpoint of its flow.

A shard holds `SHARD` examples and depends only on (teacher, dataset, seed, number): any process can make any shard, a
killed run goes on with the missing ones, and a shard is renamed into place only when it is whole. Images are not
copied: a row names its frame in the dataset.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgevla.errors import BadInput, explain
from export.distill.dataset import Batches, Demonstrations, Sampling, normalise_image
from export.request import LEAST_EXAMPLES as SHARD
from export.teachers.folder import Teacher

BATCH = 128  # teacher inferences at once
KEYS = ("shard", "frame", "tokens", "state", "noise", "prefix", "mask", "endpoint", "actions", "valid", "features")


@dataclass(frozen=True)
class TargetPlan:
    """Which targets to make. `fixed_share` of the examples start from the noise that the bundle will carry."""

    shards: int
    seed: int
    fixed_noise: Tensor  # (H, A)
    fixed_share: float = 0.5
    noise_scale: float = 1.0  # deviation of the other noises


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"targets-{number:05d}.safetensors"


def missing_shards(folder: Path, plan: TargetPlan) -> list[int]:
    """Numbers of the shards still to be made."""
    return [number for number in range(plan.shards) if not shard_path(folder, number).exists()]


@torch.inference_mode()
def make_shard(teacher: Teacher, data: Demonstrations, plan: TargetPlan, number: int, folder: Path) -> None:
    """Makes one shard and renames it into place."""
    config = teacher.model.config
    seed = plan.seed * 1_000_003 + number
    sampling = Sampling(config.horizon, config.d_max, config.max_tokens, word_dropout=0.0)
    batches = Batches(data, sampling, BATCH, seed, (teacher.state_mean, teacher.state_std))
    generator = torch.Generator().manual_seed(seed)
    parts = [_answer(teacher, batches, plan, generator) for _ in range(SHARD // BATCH)]
    tensors = {key: torch.cat([part[key] for part in parts]).contiguous() for key in KEYS}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".part-{number:05d}-{os.getpid()}.safetensors"
    save_file(tensors, temporary)
    os.replace(temporary, shard_path(folder, number))


def _answer(teacher: Teacher, batches: Batches, plan: TargetPlan, generator: torch.Generator) -> dict[str, Tensor]:
    batch = batches.next()
    noise = plan.noise_scale * torch.randn(batch["actions"].shape, generator=generator)
    fixed = torch.rand(len(noise), generator=generator) < plan.fixed_share
    noise[fixed] = plan.fixed_noise
    prefix = batch["actions"] * batch["mask"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        observation, condition = teacher.model.encode(batch["image"], batch["tokens"], batch["state"])
        endpoint = teacher.model.integrate(observation, condition, noise, prefix, batch["mask"])
    features = observation.to(torch.float16)
    return {**batch, "noise": noise, "prefix": prefix, "endpoint": endpoint.float(), "features": features}


class Targets:
    """All shards in memory; draws training batches with their images."""

    def __init__(self, folder: Path, plan: TargetPlan, data: Demonstrations, batch: int, seed: int) -> None:
        shards = [_read(shard_path(folder, number)) for number in range(plan.shards)]
        self._rows = {key: torch.cat([shard[key] for shard in shards]) for key in KEYS}
        self._data, self._batch = data, batch
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._rows["state"])

    def next(self) -> dict[str, Tensor]:
        """A random batch: image, tokens, state, noise, prefix, mask, endpoint, actions, valid."""
        picked = self._rng.integers(len(self), size=self._batch)
        rows = {key: value[picked] for key, value in self._rows.items()}
        shards, frames = rows.pop("shard").tolist(), rows.pop("frame").tolist()
        image = np.stack([self._data.image[s][f] for s, f in zip(shards, frames, strict=True)])
        return {**rows, "image": normalise_image(torch.from_numpy(image))}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
        missing = set(KEYS) - set(tensors)
    except (OSError, SafetensorError) as error:
        raise BadInput(
            explain("cached targets", f"a whole {path.name}", str(error), "delete it and run again")
        ) from error
    if missing:
        raise BadInput(explain("cached targets", f"{KEYS} in {path.name}", f"no {missing}", "delete it and run again"))
    return tensors
