"""Real frames of a dataset as the graphs take them: batch 1, every raw input by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.distill.feed import Feed
from export.distill.source import Rows, Source

Array = npt.NDArray[Any]
Frame = dict[str, Array]


@dataclass(frozen=True)
class Frames:
    """Rows of a source for a model, made one by one: pictures of a thousand frames are not held at once.

    rows: of `Source.draw`; those before `depth` are the prefix. noise: (H, Z), or None.
    """

    source: Source
    feed: Feed
    rows: Rows
    noise: Array | None

    def __len__(self) -> int:
        return len(self.rows["tick"])

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(i) for i in range(len(self)))

    def frame(self, i: int) -> Frame:
        """Raw inputs of row i, as `edgevla.bundle.wiring` lists them."""
        rows = {key: value[i : i + 1] for key, value in self.rows.items()}
        inputs = self.feed(self.source.pictures(rows["seen"]), rows["state"], rows["sentence"])
        frame = {name: value.numpy() for name, value in inputs.items()}
        mask = prefix_mask(rows)
        frame |= {"prefix": rows["actions"] * mask, "prefix_mask": mask}
        return frame if self.noise is None else {**frame, "noise": self.noise[None]}

    def first(self, i: int) -> Frame:
        """The same as the first inference after a start sees it: one observation stands for those before it."""
        rows = {key: value[i : i + 1] for key, value in self.rows.items()}
        seen, state = rows["seen"], rows["state"]
        past = seen.shape[1]
        newest = state[:, -(state.shape[1] // past) :]
        repeated = {**rows, "seen": np.repeat(seen[:, -1:], past, 1), "state": np.tile(newest, past)}
        return Frames(self.source, self.feed, repeated, self.noise).frame(0)


def prefix_mask(rows: Rows) -> Array:
    """float32 (B, H, 1), 1 where a row of the chunk is committed already."""
    steps = np.arange(rows["actions"].shape[1])[None, :, None]
    return (steps < rows["depth"][:, None, None]).astype(np.float32)
