"""The search as a step of `edgevla compress`: on the FP32 graphs of a fresh student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevla.bundle.manifest import ActionChannel
from edgevla.policy.preprocess import Float32
from export.distill.dataset import Demonstrations, Sampling
from export.search.error import parse_budget
from export.search.frames import Feeding, dataset_frames
from export.search.search import Choice, search
from export.students.onepass import StudentConfig


@dataclass(frozen=True)
class SearchRequest:
    """error_budget: as typed, empty for the default. budget_s: time to keep to, None for what it needs."""

    error_budget: str = ""
    budget_s: float | None = None
    progress: bool = True


def search_student(
    floats: Mapping[str, bytes],
    config: StudentConfig,
    noise: Float32,
    state_stats: tuple[Float32, Float32],
    data: Demonstrations,
    channels: Sequence[ActionChannel],
    asked: SearchRequest,
    work: Path,
    seed: int,
) -> Choice:
    """Decides which graphs the bundle ships.

    Args:
        floats: stage -> FP32 graph. noise: z, (H, A). state_stats: mean and deviation (S,) of the state.
        work: where a stopped search goes on from.

    Raises:
        Usage: the error budget cannot be read.
        BadInput: the dataset has too few ticks.
    """
    budget = parse_budget(asked.error_budget, channels)
    sampling = Sampling(config.horizon, config.d_max, config.max_tokens, word_dropout=0.0)
    frames, calibration = dataset_frames(data, Feeding(sampling, *state_stats, noise), seed=seed)
    return search(
        floats,
        frames,
        calibration,
        channels,
        budget,
        work=work,
        search_budget_s=asked.budget_s,
        seed=seed,
        progress=asked.progress,
    )


def artifact_name(kind: str) -> str:
    """What the manifest of a bundle calls a kind."""
    return kind if kind in ("fp32", "fp16") else f"cpu-{kind}"
