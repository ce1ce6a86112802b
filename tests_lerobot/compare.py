"""One comparison: the library's raw actions against ours on the same raw observation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from export.teachers.load import load_policy
from tests.export.teachers.lerobot.answers import raw_chunk

TOLERANCE = 1e-4
RESULTS: list[dict[str, Any]] = []  # printed at the end of the run


def compare(
    folder: Path,
    raw: list[dict[str, Any]],
    theirs: np.ndarray,
    noise: Tensor | None = None,
    rows: slice = slice(None),
    task: str | None = None,
    **options: Any,
) -> float:
    """Largest difference of raw actions; the folder is read by `load_policy`, `options` go there.

    The answer must depend on the observation, else agreement would say nothing.

    Args:
        folder: what the library saved.
        raw: observations, oldest first.
        theirs: raw actions (B, rows, A) of the library, the rows `rows` of ours.
        noise: (B, H, Z), as our teacher takes it.
    """
    teacher = load_policy(folder, **options)
    ours = raw_chunk(teacher, raw, noise, task)[:, rows]
    assert ours.shape == theirs.shape
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3, "the two scenes of the batch get the same answer"
    return note(ours, theirs)


def note(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of raw actions, kept for the table and held to 1e-4."""
    error = float(np.abs(ours - theirs).max())
    test = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].removesuffix(" (call)")
    RESULTS.append({"test": test, "difference": error, "spread": float(theirs.std())})
    assert error <= TOLERANCE
    return error
