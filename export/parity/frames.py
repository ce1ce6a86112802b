"""Real frames of a dataset as the graphs take them: batch 1, every raw input by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.wiring import NEXT
from export.distill.feed import Feed
from export.distill.source import Rows, Source
from export.onnx.chain import blank_memory, run_chain, torch_stage
from export.onnx.stages import StageSpec

Array = npt.NDArray[Any]
Frame = dict[str, Array]


@dataclass(frozen=True)
class Frames:
    """Rows of a source for a model, made one by one: pictures of a thousand frames are not held at once.

    rows: of `Source.draw`; those before `depth` are the prefix. noise: (H, Z), or None. stages: of a model that
    remembers: it is shown the earlier observations of a row first, one by one.
    """

    source: Source
    feed: Feed
    rows: Rows
    noise: Array | None
    stages: tuple[StageSpec, ...] = ()

    def __len__(self) -> int:
        return len(self.rows["tick"])

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(i) for i in range(len(self)))

    def frame(self, i: int) -> Frame:
        """Raw inputs of row i, as `edgevla.bundle.wiring` lists them."""
        rows = {key: value[i : i + 1] for key, value in self.rows.items()}
        if not blank_memory(self.stages):
            return self._frame(rows)
        frame: Frame = {}
        for moment in _moments(rows):
            memory = run_chain(self.stages, frame, torch_stage) if frame else {}
            kept = {name: memory[name + NEXT] for name in blank_memory(self.stages) if memory}
            frame = {**self._frame(moment), **kept}
        return frame

    def _frame(self, rows: Rows) -> Frame:
        inputs = self.feed(self.source.pictures(rows["seen"]), rows["state"], rows["sentence"])
        frame = {name: value.numpy() for name, value in inputs.items()}
        mask = prefix_mask(rows)
        frame |= {"prefix": rows["actions"] * mask, "prefix_mask": mask}
        return frame if self.noise is None else {**frame, "noise": self.noise[None]}

    def first(self, i: int) -> Frame:
        """The same as the first inference after a start sees it: one observation stands for those before it, and a
        model that remembers has nothing to remember."""
        rows = {key: value[i : i + 1] for key, value in self.rows.items()}
        if blank_memory(self.stages):
            return self._frame(_moments(rows)[-1])
        seen, state = rows["seen"], rows["state"]
        past = seen.shape[1]
        newest = state[:, -(state.shape[1] // past) :]
        repeated = {**rows, "seen": np.repeat(seen[:, -1:], past, 1), "state": np.tile(newest, past)}
        return Frames(self.source, self.feed, repeated, self.noise).frame(0)


def _moments(rows: Rows) -> list[Rows]:
    """One row of T observations as T rows of one, oldest first."""
    seen, state = rows["seen"], rows["state"]
    states = np.split(state, seen.shape[1], axis=1)
    return [{**rows, "seen": seen[:, t : t + 1], "state": states[t]} for t in range(seen.shape[1])]


def prefix_mask(rows: Rows) -> Array:
    """float32 (B, H, 1), 1 where a row of the chunk is committed already."""
    steps = np.arange(rows["actions"].shape[1])[None, :, None]
    return (steps < rows["depth"][:, None, None]).astype(np.float32)
