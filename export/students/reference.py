"""A student cut from the reference teacher: its first layers, with their weights."""

from __future__ import annotations

import torch
from torch import nn

from export.students.layers import PatchStem
from export.students.onepass import OnePassStudent, StudentConfig
from export.students.pruned import kept_layers
from export.teachers.interface import TeacherPolicy
from export.teachers.ours import FlowPolicy
from export.teachers.reference import FlowTeacher, waves


def cut(teacher: TeacherPolicy, depth: float, d_max: int) -> OnePassStudent:
    """With one layer of the encoder and one of the head it takes the first ones: of the six pairs they start with the
    lowest loss (0.25; with the last head layer 0.87)."""
    if not isinstance(teacher, FlowPolicy):
        raise TypeError(f"expected a FlowPolicy, got {type(teacher).__name__}")
    model, config = teacher.model, teacher.model.config
    encoder, head = kept_layers(config.encoder_layers, depth), kept_layers(config.head_layers, depth)
    student = OnePassStudent(
        StudentConfig(
            vocabulary=config.vocabulary,
            max_tokens=config.max_tokens,
            picture_height=config.image_size,
            picture_width=config.image_size,
            state=config.state,
            actions=config.actions,
            noise=config.actions,
            horizon=config.horizon,
            d_max=d_max,
            ticks_per_token=config.ticks_per_token,
            width=config.width,
            heads=config.heads,
            encoder_layers=len(encoder),
            head_layers=len(head),
            head_mlp_ratio=config.head_mlp_ratio,
        )
    )
    _give(student, model, encoder, head)
    return student


@torch.no_grad()
def _give(student: OnePassStudent, model: FlowTeacher, encoder: list[int], head: list[int]) -> None:
    """Copies what has the same shape: words, state, action tokens, a patch stem, and the kept layers."""
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (student.text, model.text),
        (student.state, model.state),
        (student.norm, model.norm),
        (student.tokens, model.tokens),
        *zip(student.encoder, (model.encoder[i] for i in encoder), strict=True),
        *zip(student.head, (model.head[i] for i in head), strict=True),
    ]
    if isinstance(model.stem, PatchStem):
        pairs.append((student.stem, model.stem))
    for mine, theirs in pairs:
        mine.load_state_dict(theirs.state_dict())
    student.position.copy_(model.position)
    student.bias.copy_(model.time(waves(torch.zeros(1)))[0])
