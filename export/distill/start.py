"""Where a student starts: the teacher's own layers where they fit, a whitening of real frames where they do not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from export.distill.dataset import Demonstrations, normalise_image
from export.students.layers import PatchStem
from export.students.onepass import OnePassStudent, StudentConfig
from export.teachers.folder import Teacher
from export.teachers.reference import waves

WHITENING_FRAMES = 512


def student_for(teacher: Teacher, mode: str, noise: Tensor) -> OnePassStudent:
    """A student of the teacher's interface. Only a distilled one starts from the teacher's layers.

    Args:
        teacher: the loaded teacher.
        mode: `distil`, or a control: `demos-only` gets nothing of the teacher, `without-z` all but the noise.
        noise: (H, A), the z that the bundle will carry.
    """
    config = teacher.model.config
    student = OnePassStudent(
        StudentConfig(
            vocabulary=config.vocabulary,
            max_tokens=config.max_tokens,
            horizon=config.horizon,
            d_max=config.d_max,
            width=config.width,
            heads=config.heads,
            head_mlp_ratio=config.head_mlp_ratio,
            noise_input=mode == "distil",
        )
    )
    student.fixed_noise = noise.clone()
    if mode != "demos-only":
        _take_over(student, teacher)
    return student


@torch.no_grad()
def _take_over(student: OnePassStudent, teacher: Teacher) -> None:
    """Copies what has the same shape: words, state, action tokens, and the first layer of encoder and head.

    The first layers: of the six pairs they start with the lowest loss (0.25; with the last head layer 0.87).
    """
    model = teacher.model
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (student.text, model.text),
        (student.state, model.state),
        (student.norm, model.norm),
        (student.tokens, model.tokens),
        (student.encoder[0], model.encoder[0]),
        (student.head[0], model.head[0]),
    ]
    for mine, theirs in pairs:
        mine.load_state_dict(theirs.state_dict())
    student.position.copy_(model.position)
    if isinstance(model.stem, PatchStem):
        student.stem.load_state_dict(model.stem.state_dict())
    student.bias.copy_(model.time(waves(torch.zeros(1)))[0])


def whiten(student: OnePassStudent, teacher: Teacher, data: Demonstrations, mode: str, seed: int) -> None:
    """Starts the patch stem from the frames of the demonstrations, unless it has the teacher's already."""
    if mode != "demos-only" and isinstance(teacher.model.stem, PatchStem):
        return
    ticks = np.random.default_rng(seed).integers(len(data), size=WHITENING_FRAMES)
    student.stem.whiten(normalise_image(torch.from_numpy(data.images(ticks))))
