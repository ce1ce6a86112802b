"""What the distillation buys: students of equal budget on the same held-out frames, by the error of their actions.

    against the teacher         same observation, same z, same prefix; the teacher's endpoint
    against the demonstration   what was done there

Errors are of the rows after the prefix, in the unit of each channel; they say nothing about success on the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.distill.feed import Feed, teacher_feed
from export.distill.source import Rows, Source
from export.parity.frames import prefix_mask
from export.students.interface import SavedStudent
from export.teachers.interface import TeacherPolicy

Array = npt.NDArray[Any]
BATCH = 16


@dataclass(frozen=True)
class ControlRow:
    """One student. Root mean square per channel, in its unit."""

    mode: str
    frames: int
    to_teacher: tuple[float, ...]
    to_demonstration: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def compare_students(
    students: Mapping[str, SavedStudent], teacher: TeacherPolicy, source: Source, frames: int, seed: int
) -> list[ControlRow]:
    """A row per student, over the same frames of held-out episodes, each from its bundle's z."""
    first = next(iter(students.values())).student
    rows = source.draw(frames, seed, first.horizon, first.d_max, held=True)
    noise = first.fixed_noise[None]
    mask = torch.from_numpy(prefix_mask(rows))
    prefix = torch.from_numpy(rows["actions"]) * mask
    asked = teacher_feed(teacher, source.sentences, source.present)
    endpoint = _answers(
        rows, lambda part, p, m: teacher(_inputs(asked, source, part), _many(noise, p), p, m), prefix, mask
    )
    scale, found = teacher.spec.action_stats.scale, []
    for mode, saved in students.items():
        student, feed = saved.student, Feed(saved.feeding, source.sentences, source.present, teacher)
        chunk = _answers(
            rows,
            lambda part, p, m, student=student, feed=feed: student(  # type: ignore[misc]
                _inputs(feed, source, part), _many(noise, p), p, m
            )[0],
            prefix,
            mask,
        )
        weight = (1 - mask).numpy()
        to_demonstration = rms(chunk, rows["actions"], weight * rows["valid"], scale)
        found.append(ControlRow(mode, frames, rms(chunk, endpoint, weight, scale), to_demonstration))
    return found


def rms(got: Array, wanted: Array, weight: Array, scale: Array) -> tuple[float, ...]:
    """Per channel of (B, H, A), over the rows where weight (B, H, 1) is 1, in the unit of scale (A,)."""
    square = (np.square((got - wanted) * scale) * weight).sum((0, 1)) / np.maximum(weight.sum(), 1.0)
    return tuple(float(value) for value in np.sqrt(square))


def _many(noise: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return noise.expand(len(like), -1, -1)


def _inputs(feed: Feed, source: Source, rows: Rows) -> dict[str, torch.Tensor]:
    return feed(source.pictures(rows["seen"]), rows["state"], rows["sentence"])


def _answers(rows: Rows, answer: Any, prefix: torch.Tensor, mask: torch.Tensor) -> Array:
    """The chunks (B, H, A) of all rows, a few at a time."""
    parts = []
    for first in range(0, len(prefix), BATCH):
        some = slice(first, first + BATCH)
        part = {name: value[some] for name, value in rows.items()}
        parts.append(answer(part, prefix[some], mask[some]).float().numpy())
    return np.concatenate(parts)
