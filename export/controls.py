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
    weight, scale, found = 1 - prefix_mask(rows), teacher.spec.action_stats.scale, []
    asked = teacher_feed(teacher, source.sentences, source.present)
    endpoint = _answers(source, asked, rows, first.fixed_noise, teacher)
    for mode, saved in students.items():
        feed = Feed(saved.feeding, source.sentences, source.present, teacher)
        chunk = _answers(source, feed, rows, saved.student.fixed_noise, lambda *given, s=saved.student: s(*given)[0])
        to_demonstration = rms(chunk, rows["actions"], weight * rows["valid"], scale)
        found.append(ControlRow(mode, frames, rms(chunk, endpoint, weight, scale), to_demonstration))
    return found


def rms(got: Array, wanted: Array, weight: Array, scale: Array) -> tuple[float, ...]:
    """Per channel of (B, H, A), over the rows where weight (B, H, 1) is 1, in the unit of scale (A,)."""
    square = (np.square((got - wanted) * scale) * weight).sum((0, 1)) / np.maximum(weight.sum(), 1.0)
    return tuple(float(value) for value in np.sqrt(square))


def _answers(source: Source, feed: Feed, rows: Rows, noise: torch.Tensor, policy: Any) -> Array:
    """The chunks (B, H, A) of all rows, a few at a time."""
    parts = []
    for first in range(0, len(rows["tick"]), BATCH):
        part = {name: value[first : first + BATCH] for name, value in rows.items()}
        inputs = feed(source.pictures(part["seen"]), part["state"], part["sentence"])
        mask = torch.from_numpy(prefix_mask(part))
        prefix = torch.from_numpy(part["actions"]) * mask
        parts.append(policy(inputs, noise.expand(len(mask), -1, -1), prefix, mask).float().numpy())
    return np.concatenate(parts)
