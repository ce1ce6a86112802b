"""Policies of the real library with random weights, saved as a user's would be, and what they answer.

    policy = make_policy("act", tmp_path, cameras={"top": (96, 128)}, state=6, actions=4, dim_model=64)
    chunk = policy.chunk(policy.observations(seed=1))          # raw in, raw out, (B, rows, A)
    teacher = load_policy(tmp_path)                            # ours, to be compared: see `answers.py`

Everything is offline and on one CPU thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
STATS = ("mean", "std", "min", "max", "q01", "q99", "q10", "q90")
_DECLARED: list[torch.library.Library] = []


def prepare_library() -> None:
    """Before the first import of lerobot: schemas of torchvision's C++ ops, whose library does not load beside this
    torch. Nothing here calls them; without the schemas its import fails."""
    if _DECLARED:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)


@dataclass(frozen=True)
class Made:
    """A policy of the library with its processors, and the folder it was saved in."""

    policy: Any
    preprocessor: Any
    postprocessor: Any
    folder: Path
    cameras: Mapping[str, tuple[int, int]]  # height, width
    state: int
    environment: int
    task: str | None = None

    def observations(self, count: int = 1, batch: int = 2, seed: int = 0) -> list[dict[str, Any]]:
        """`count` raw observations, oldest first: uint8 pictures (B, h, w, 3) by camera, state, environment float32."""
        rng = np.random.default_rng(seed)
        return [
            {
                "images": {
                    name: rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8) for name, size in self.cameras.items()
                },
                "state": rng.normal(0.4, 0.8, (batch, self.state)).astype(np.float32),
                "environment": rng.normal(0.4, 0.8, (batch, self.environment)).astype(np.float32),
            }
            for _ in range(count)
        ]

    def batch(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """A raw observation as the library's own loops hand it to the preprocessor, and what that makes of it."""
        raw: dict[str, Any] = {
            f"observation.images.{name}": torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
            for name, image in observation["images"].items()
        }
        if self.state:
            raw["observation.state"] = torch.from_numpy(observation["state"])
        if self.environment:
            raw["observation.environment_state"] = torch.from_numpy(observation["environment"])
        if self.task is not None:
            raw["task"] = [self.task] * len(observation["state"])
        return dict(self.preprocessor(raw))

    @torch.no_grad()
    def chunk(self, observations: Sequence[Mapping[str, Any]], **arguments: Any) -> np.ndarray:
        """Raw actions (B, rows, A) of the library for the last observation; `arguments` go to predict_action_chunk."""
        made = (self.batch(observation) for observation in observations)
        batches = [{key: value for key, value in batch.items() if value is not None} for batch in made]
        self.policy.eval()
        self.policy.reset()
        if getattr(self.policy, "_queues", None) is not None and self.policy.name == "diffusion":
            _fill_queues(self.policy, batches)
        answer = self.policy.predict_action_chunk(batches[-1], **arguments)
        return np.asarray(self.postprocessor(answer), np.float32)


def _fill_queues(policy: Any, batches: list[dict[str, Any]]) -> None:
    """What select_action does with each observation before it predicts."""
    from lerobot.policies.utils import populate_queues

    for batch in batches:
        stacked = dict(batch)
        if policy.config.image_features:
            pictures = [batch[key] for key in policy.config.image_features]
            stacked["observation.images"] = torch.stack(pictures, dim=-4)
        policy._queues = populate_queues(policy._queues, stacked)
        batch.update(stacked)


def features(
    cameras: Mapping[str, tuple[int, int]], state: int, environment: int, actions: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """input_features and output_features of a config."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    inputs = {
        f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, *size)) for name, size in cameras.items()
    }
    if state:
        inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (state,))
    if environment:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (environment,))
    return inputs, {"action": PolicyFeature(FeatureType.ACTION, (actions,))}


def statistics(every: Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Every statistic of every feature, random and consistent (q01 between min and q10, ...)."""
    rng = np.random.default_rng(seed)
    stats = {}
    for key, feature in every.items():
        shape = (3, 1, 1) if len(feature.shape) == 3 else tuple(feature.shape)
        cuts = np.sort(rng.uniform(0, 1, (6, *shape)), axis=0) * (1 if len(shape) == 3 else 5) - (len(shape) == 1)
        names = ("min", "q01", "q10", "q90", "q99", "max")
        stats[key] = {name: torch.tensor(cut, dtype=torch.float32) for name, cut in zip(names, cuts, strict=True)}
        stats[key]["mean"] = torch.tensor(rng.uniform(0.2, 0.7, shape), dtype=torch.float32)
        stats[key]["std"] = torch.tensor(rng.uniform(0.2, 0.9, shape), dtype=torch.float32)
    return stats


@torch.no_grad()
def randomize(policy: torch.nn.Module, seed: int = 0) -> None:
    """So that no norm is the identity, no bias zero and no frozen statistic a default that a loader could forget."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in policy.state_dict().items():
        if not tensor.is_floating_point() or name.endswith(("pos_grid", "pos_enc")):
            continue
        noise = torch.rand(tensor.shape, generator=generator) - 0.5
        if name.endswith("running_var"):
            tensor.copy_(1 + noise)
        elif tensor.dim() < 2:
            tensor.add_(0.4 * noise)


def make_policy(
    kind: str,
    folder: Path,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    state: int = 5,
    environment: int = 0,
    actions: int = 4,
    modes: Mapping[str, str] | None = None,
    seed: int = 0,
    task: str | None = None,
    **config: Any,
) -> Made:
    """A policy of `kind` with random weights and statistics, saved into `folder` with its processors.

    `modes` replaces entries of the default normalization_mapping; `config` goes to the library's config class.
    """
    prepare_library()
    from lerobot.configs.types import NormalizationMode
    from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    cameras = {"top": (64, 64)} if cameras is None else dict(cameras)
    inputs, outputs = features(cameras, state, environment, actions)
    made = make_policy_config(kind, input_features=inputs, output_features=outputs, device="cpu", **config)
    made.normalization_mapping = {
        **made.normalization_mapping,
        **{name: NormalizationMode(mode) for name, mode in (modes or {}).items()},
    }
    policy = get_policy_class(kind)(made)
    randomize(policy, seed)
    policy.eval()
    before, after = make_pre_post_processors(made, dataset_stats=statistics({**inputs, **outputs}, seed))
    folder.mkdir(parents=True, exist_ok=True)
    policy.save_pretrained(folder)
    before.save_pretrained(folder)
    after.save_pretrained(folder)
    return Made(policy, before, after, folder, cameras, state, environment, task)
