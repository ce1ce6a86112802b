"""The reference policy behind the interface of every teacher."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from export.channels import ACTION_SCALE, STATE, TRAINING_CAMERA, action_channels
from export.students.interface import Student
from export.students.layers import PatchStem
from export.students.onepass import OnePassStudent, StudentConfig
from export.students.pruned import kept_layers
from export.teachers.folder import Teacher
from export.teachers.interface import Affine, CameraSpec, Float32, Inputs, TeacherPolicy, TeacherSpec
from export.teachers.noise import bundle_noise, noise_scale
from export.teachers.reference import waves


class FlowPolicy(TeacherPolicy):
    """`FlowTeacher` with its words and statistics."""

    bf16_targets = True  # its answers move by less than 2 % of their deviation
    depth = 0.4  # of the student that is cut from it: one layer of two, one of three

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        config = teacher.model.config
        self.teacher, self.model, self.sha256 = teacher, teacher.model, teacher.sha256
        self.words = teacher.vocabulary.words
        self.spec = TeacherSpec(
            name="flow-teacher",
            cameras=(CameraSpec(TRAINING_CAMERA.name, config.image_size, config.image_size),),
            state=tuple(name for name, _ in STATE),
            actions=tuple(channel["name"] for channel in action_channels()),
            horizon=config.horizon,
            d_max=config.d_max,
            max_tokens=config.max_tokens,
            noise=config.actions,
            state_stats=Affine(teacher.state_mean, teacher.state_std),
            action_stats=Affine(np.zeros(config.actions, np.float32), np.asarray(ACTION_SCALE, np.float32)),
        )

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        return self.model.encode(inputs["image"][:, 0], inputs["tokens"], inputs["state"])

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        observation, condition = context
        return self.model.integrate(observation, condition, noise, prefix, mask)

    def features(self, context: tuple[Tensor, ...]) -> Tensor:
        return context[0]

    def tokenize(self, text: str) -> tuple[npt.NDArray[np.int64], Float32]:
        ids = self.teacher.vocabulary.encode(text)
        return ids, (ids != 0).astype(np.float32)

    def bundle_noise(self, seed: int) -> tuple[Float32, float]:
        """The z of the bundle, (H, Z), and the deviation that fresh ones are drawn with."""
        return bundle_noise(self.teacher, seed), noise_scale(self.teacher)

    def pruned(self, depth: float) -> Student:
        """Its first layers with their weights: of the six pairs they start with the lowest loss (0.25; with the last
        head layer 0.87)."""
        config = self.model.config
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
                d_max=config.d_max,
                ticks_per_token=config.ticks_per_token,
                width=config.width,
                heads=config.heads,
                encoder_layers=len(encoder),
                head_layers=len(head),
                head_mlp_ratio=config.head_mlp_ratio,
            )
        )
        self._give(student, encoder, head)
        return student

    @torch.no_grad()
    def _give(self, student: OnePassStudent, encoder: list[int], head: list[int]) -> None:
        """Copies what has the same shape: words, state, action tokens, a patch stem, and the kept layers."""
        model = self.model
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
