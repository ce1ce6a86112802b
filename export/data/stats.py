"""Statistics of features as a LeRobotDataset keeps them, per episode and over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.data.interface import Uint8

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = dict[str, npt.NDArray[Any]]
SAMPLED_PICTURES = 100  # per episode, evenly spread


def vector_stats(values: npt.NDArray[Any]) -> Stats:
    """Of (n, k) numbers: min, max, mean, std, quantiles (k,) each, and count (1,)."""
    exact = values.astype(np.float64)
    stats: Stats = {"min": values.min(0), "max": values.max(0), "mean": exact.mean(0), "std": exact.std(0)}
    stats["count"] = np.array([len(values)])
    return stats | {name: np.quantile(exact, share, axis=0) for name, share in QUANTILES.items()}


def picture_stats(pictures: Uint8) -> Stats:
    """Of (n, h, w, 3) pixels: as above per colour, over pixels in [0, 1], (3, 1, 1) each; from a sample of pictures.

    Counted per value of a pixel, in whole numbers: squares of uint8 overflow where they are taken as they come.
    """
    picked = np.unique(np.linspace(0, len(pictures) - 1, SAMPLED_PICTURES).round().astype(int))
    counts = np.zeros((3, 256), np.int64)
    for number in picked:
        for colour in range(3):
            counts[colour] += np.bincount(pictures[number, ..., colour].ravel(), minlength=256)
    values, total = np.arange(256) / 255.0, counts.sum(1)
    mean = counts @ values / total
    stats: Stats = {
        "min": np.array([values[row > 0][0] for row in counts]),
        "max": np.array([values[row > 0][-1] for row in counts]),
        "mean": mean,
        "std": np.sqrt(np.maximum(0, counts @ values**2 / total - mean**2)),
    }
    reached = np.cumsum(counts, axis=1)
    for name, share in QUANTILES.items():
        stats[name] = np.array([values[np.searchsorted(row, share * row[-1])] for row in reached])
    return {name: value.reshape(3, 1, 1) for name, value in stats.items()} | {"count": np.array([len(picked)])}


def merged(parts: Sequence[Stats]) -> Stats:
    """Of several episodes: exact, but for the quantiles, which are averaged by count as LeRobot does."""
    counts = np.array([part["count"][0] for part in parts], np.float64)
    share = (counts / counts.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
    mean = sum(np.stack([part["mean"] for part in parts]) * share)
    variance = sum((np.stack([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])) * share)
    stats: Stats = {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": np.asarray(mean),
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
    }
    return stats | {name: np.sum(np.stack([part[name] for part in parts]) * share, axis=0) for name in QUANTILES}


def as_lists(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    """What JSON can hold."""
    return {feature: {name: value.tolist() for name, value in of.items()} for feature, of in stats.items()}
