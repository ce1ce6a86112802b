"""Real frames of a dataset as the graphs of a bundle are fed: to judge on, and others to calibrate on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgevla.bundle.reader import Bundle
from edgevla.errors import BadInput, explain
from edgevla.policy.preprocess import Float32
from export.distill.dataset import Batches, Demonstrations, Sampling
from export.search.engines import Feeds

FRAMES = 320  # to judge on: the p99 is the fourth worst
CALIBRATION = 64
HELD_EVERY = 10  # episodes: the first of ten gives frames to judge on, the others frames to calibrate on


@dataclass(frozen=True)
class Feeding:
    """What turns a tick of a dataset into feeds: sizes of the policy, statistics (mean, deviation) and the noise z."""

    sampling: Sampling
    state_mean: Float32
    state_std: Float32
    noise: Float32  # (H, A)


def bundle_frames(
    bundle: Bundle, data: Path, count: int = FRAMES, calibration: int = CALIBRATION, seed: int = 0
) -> tuple[list[Feeds], list[Feeds]]:
    """`dataset_frames` for what a bundle declares.

    Raises:
        BadInput: the dataset is unusable, too small for that many frames, or of other words than the bundle.
    """
    demonstrations, timing, stats = Demonstrations(data), bundle.manifest.timing, bundle.stats
    _require_same_words(bundle, demonstrations)
    sampling = Sampling(timing.horizon, timing.d_max, bundle.vocabulary.max_tokens, word_dropout=0.0)
    feeding = Feeding(sampling, stats.state_mean, stats.state_std, bundle.noise)
    return dataset_frames(demonstrations, feeding, count, calibration, seed)


def dataset_frames(
    data: Demonstrations, feeding: Feeding, count: int = FRAMES, calibration: int = CALIBRATION, seed: int = 0
) -> tuple[list[Feeds], list[Feeds]]:
    """Frames to judge on and frames to calibrate on, from episodes that the other list does not touch.

    Raises:
        BadInput: the dataset is too small for that many frames.
    """
    judged, others = require_ticks(data, count, calibration)
    rng = np.random.default_rng(seed)
    return (
        _feeds(data, feeding, np.sort(rng.choice(judged, count, replace=False)), seed),
        _feeds(data, feeding, np.sort(rng.choice(others, calibration, replace=False)), seed + 1),
    )


def require_ticks(
    data: Demonstrations, count: int = FRAMES, calibration: int = CALIBRATION
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ticks to judge on and ticks to calibrate on. Raises BadInput: too few of them."""
    held = held_out(data.start)
    judged, others = np.flatnonzero(held), np.flatnonzero(~held)
    if len(judged) < count or len(others) < calibration:
        got = f"{len(judged)} ticks in every {HELD_EVERY}th episode, {len(others)} in the others"
        raise BadInput(
            explain("frames of the dataset", f"{count} and {calibration} to calibrate on", got, "record more episodes")
        )
    return judged, others


def _require_same_words(bundle: Bundle, data: Demonstrations) -> None:
    ours, theirs = tuple(bundle.vocabulary.tokens), tuple(data.meta["vocabulary"])
    if ours != theirs:
        got = f"{len(theirs)} words that are not those of the bundle in its order"
        raise BadInput(explain("words of the dataset", f"the bundle's {len(ours)} words", got, "give its own dataset"))


def held_out(start: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which ticks belong to held-out episodes, from the first tick of each tick's episode."""
    episode = np.unique(start, return_inverse=True)[1]
    return np.asarray(episode % HELD_EVERY == 0)


def _feeds(data: Demonstrations, feeding: Feeding, ticks: npt.NDArray[np.int64], seed: int) -> list[Feeds]:
    statistics = (feeding.state_mean, feeding.state_std)
    batch = Batches(data, feeding.sampling, 1, seed, statistics).at(ticks)
    arrays = {
        "image": batch["image"].numpy(),
        "tokens": batch["tokens"].numpy(),
        "state": batch["state"].numpy().astype(np.float32),
        "noise": np.repeat(feeding.noise[None], len(ticks), axis=0),
        "prefix": (batch["actions"] * batch["mask"]).numpy(),
        "prefix_mask": batch["mask"].numpy(),
    }
    return [{name: values[i : i + 1] for name, values in arrays.items()} for i in range(len(ticks))]
