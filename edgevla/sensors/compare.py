"""Is the live picture the view that the policy was trained with? Numbers of two pictures side by side. Pure.

Every comparison is on a grid of `GRID` x `GRID` cells, so that noise, sharpness and a moved object count for little and
pictures of different sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Grid = NDArray[np.float64]

GRID = 24  # cells a side
SAME_VIEW = 0.5  # correlation below which two pictures do not show the same
CLEARLY = 0.15  # correlation by which another reading of the picture must be the better one
EXCHANGED = 0.5  # gain by which the colours must agree better with red and blue exchanged
COLOURLESS = 4.0  # mean chroma, of 255: below it red and blue cannot be told from one another
FAR_COLOUR = 25.0  # difference of a channel's mean, of 255
BLURRED = 0.4  # of the training frame's sharpness
CLIPPED = 0.25  # share of pixels that are black or white, above that of the training frame

ORIENTATIONS = {
    "upright": (slice(None), slice(None)),
    "upside down": (slice(None, None, -1), slice(None, None, -1)),
    "mirrored": (slice(None), slice(None, None, -1)),
    "flipped": (slice(None, None, -1), slice(None)),
}


@dataclass(frozen=True)
class Look:
    """One picture in numbers: mean of R, G, B (of 255), sharpness, shares of pixels that are black and white."""

    width: int
    height: int
    mean: tuple[float, float, float]
    sharpness: float
    black: float
    white: float


@dataclass(frozen=True)
class Comparison:
    """A live picture against its training frame. Correlations are in [-1, 1]; None: it cannot be told."""

    live: Look
    trained: Look
    similarity: float  # as it is
    swapped_gain: float | None  # by how much the colours agree better with red and blue exchanged
    orientation: str  # the one of ORIENTATIONS that agrees best
    orientation_gain: float  # by how much better than upright
    similarity_to: Mapping[str, float]  # training frame of each camera, turned or exchanged where that agrees better
    wrong: tuple[str, ...]  # the policy would fail
    doubtful: tuple[str, ...]  # it may


def compare(name: str, live: Image, trained: Mapping[str, Image]) -> Comparison:
    """Compare the live picture of camera `name`, RGB uint8 (h, w, 3), with the training frames by camera."""
    here, there = grid_of(live), {other: grid_of(image) for other, image in trained.items()}
    scores = readings(here, there[name])
    best = max(scores, key=scores.__getitem__)
    values: dict[str, Any] = {
        "live": look_of(live),
        "trained": look_of(trained[name]),
        "similarity": correlation(here, there[name]),
        "swapped_gain": swapped_gain(here[ORIENTATIONS[best]], there[name]),
        "orientation": best,
        "orientation_gain": scores[best] - scores["upright"],
        "similarity_to": {other: max(readings(here, cells).values()) for other, cells in there.items()},
    }
    found = Comparison(**values, wrong=(), doubtful=())
    return Comparison(**values, wrong=tuple(_wrong(name, found)), doubtful=tuple(_doubtful(found)))


def readings(live: Grid, trained: Grid) -> dict[str, float]:
    """Correlation by orientation, red and blue as they are or exchanged, whichever agrees better."""
    turned = {kind: live[view] for kind, view in ORIENTATIONS.items()}
    return {kind: max(correlation(c, trained), correlation(c[..., ::-1], trained)) for kind, c in turned.items()}


def _wrong(name: str, c: Comparison) -> list[str]:
    said = []
    known = c.similarity_to[name] > SAME_VIEW
    other = max(c.similarity_to, key=c.similarity_to.__getitem__)
    if (c.live.width, c.live.height) != (c.trained.width, c.trained.height):
        said.append(f"{c.live.width} x {c.live.height}, trained with {c.trained.width} x {c.trained.height}")
    if c.similarity_to[other] > c.similarity_to[name] + CLEARLY:
        return [*said, f"it shows the view of camera {other}"]
    if known and c.swapped_gain is not None and c.swapped_gain > EXCHANGED:
        said.append("red and blue are exchanged")
    if known and c.orientation_gain > CLEARLY:
        said.append(f"the picture is {c.orientation}")
    if not said and c.similarity < SAME_VIEW:
        said.append(f"another view: similarity {c.similarity:.2f}, below {SAME_VIEW:g}")
    return said


def _doubtful(c: Comparison) -> list[str]:
    said = []
    apart = [live - trained for live, trained in zip(c.live.mean, c.trained.mean, strict=True)]
    if max(map(abs, apart)) > FAR_COLOUR:
        said.append("mean colour is off by " + ", ".join(f"{d:+.0f}" for d in apart) + " (R, G, B of 255)")
    if c.live.sharpness < BLURRED * c.trained.sharpness:
        said.append(f"blurred: sharpness {c.live.sharpness:.1f}, trained {c.trained.sharpness:.1f}")
    for kind in ("black", "white"):
        share = getattr(c.live, kind)
        if share > getattr(c.trained, kind) + CLIPPED:
            said.append(f"{share:.0%} of the picture is {kind}: check the exposure")
    return said


def swapped_cameras(comparisons: Mapping[str, Comparison]) -> list[tuple[str, str]]:
    """Pairs of cameras each of which shows the view of the other."""
    seen = {name: max(c.similarity_to, key=c.similarity_to.__getitem__) for name, c in comparisons.items()}
    return [
        (a, b)
        for a, b in seen.items()
        if a < b
        and seen.get(b) == a
        and comparisons[a].similarity_to[b] > comparisons[a].similarity_to[a] + CLEARLY
        and comparisons[b].similarity_to[a] > comparisons[b].similarity_to[b] + CLEARLY
    ]


def look_of(image: Image) -> Look:
    """Numbers of one picture, RGB uint8 (h, w, 3). Sharpness: rms of the Laplacian of luma, of 255."""
    values = image.astype(np.float64)
    grey = luma(values)
    inner = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    red, green, blue = (float(mean) for mean in values.mean((0, 1)))
    sharpness = float(np.sqrt((inner**2).mean())) if inner.size else 0.0
    black, white = float((grey < 8).mean()), float((grey > 247).mean())
    return Look(image.shape[1], image.shape[0], (red, green, blue), sharpness, black, white)


def grid_of(image: Image) -> Grid:
    """Means over `GRID` x `GRID` cells, float64 (GRID, GRID, 3), of 255."""
    rows, columns = (np.linspace(0, size, GRID + 1).round().astype(int) for size in image.shape[:2])
    if min(image.shape[:2]) < GRID:
        picked = np.ix_(rows[:-1].clip(max=image.shape[0] - 1), columns[:-1].clip(max=image.shape[1] - 1))
        return image[picked].astype(np.float64)
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float64), rows[:-1], 0), columns[:-1], 1)
    means: Grid = sums / (np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None])
    return means


def luma(values: Grid) -> Grid:
    """Brightness (..., 3) -> (...), ITU-R BT.601 weights."""
    weighted: Grid = values @ np.array([0.299, 0.587, 0.114])
    return weighted


def correlation(a: Grid, b: Grid) -> float:
    """Pearson's correlation of two arrays of one shape; 0 where one of them is flat."""
    x, y = (a - a.mean()).reshape(-1), (b - b.mean()).reshape(-1)
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 1e-9 else 0.0


def swapped_gain(live: Grid, trained: Grid) -> float | None:
    """Cosine of the colours with red and blue exchanged, less the cosine as they are; None for grey pictures.

    Only the axis from blue to red can tell: green keeps its place.
    """
    here, there = (cells[..., 0] - cells[..., 2] for cells in (live, trained))
    if min(float(np.abs(here).mean()), float(np.abs(there).mean())) < COLOURLESS:
        return None
    cosine = float((here * there).sum() / np.sqrt((here**2).sum() * (there**2).sum()))
    return -2.0 * cosine
