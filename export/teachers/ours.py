"""The reference policy behind the interface that all teachers share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.channels import ACTION_NAMES, ACTION_SCALE, STATE, TRAINING_CAMERA
from export.teachers.folder import Teacher
from export.teachers.interface import Affine, CameraSpec, Float32, Inputs, TeacherPolicy, TeacherSpec
from export.teachers.noise import bundle_noise, noise_scale


class FlowPolicy(TeacherPolicy):
    """A loaded `Teacher`. It knows a prefix, hears words, and starts from noise of deviation `noise_scale`."""

    bf16_targets = True  # its answers move by less than 2 % of their deviation
    depth = 0.4  # of the student that is cut from it: one layer of two, one of three

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        config = teacher.model.config
        self.teacher, self.model, self.vocabulary = teacher, teacher.model, teacher.vocabulary
        self.words = teacher.vocabulary.words
        self.sha256, self.noise_scale = teacher.sha256, noise_scale(teacher)
        self.spec = TeacherSpec(
            name="flow-teacher",
            cameras=(CameraSpec(TRAINING_CAMERA.name, config.image_size, config.image_size),),
            state=tuple(name for name, _ in STATE),
            actions=ACTION_NAMES,
            horizon=config.horizon,
            d_max=config.d_max,
            max_tokens=config.max_tokens,
            noise=config.actions,
            state_stats=Affine(teacher.state_mean, teacher.state_std),
            action_stats=Affine(np.zeros_like(ACTION_SCALE), ACTION_SCALE),
        )

    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        return self.model.encode(inputs["image"][:, 0], inputs["tokens"], inputs["state"])

    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        return self.model.integrate(context[0], context[1], noise, prefix, mask)

    def features(self, context: tuple[Tensor, ...]) -> Tensor | None:
        return torch.as_tensor(context[0])

    def tokenize(self, text: str) -> tuple[npt.NDArray[np.int64], Float32]:
        tokens = self.vocabulary.encode(text)
        return tokens, (tokens > 0).astype(np.float32)

    def bundle_noise(self, seed: int) -> tuple[Float32, float]:
        """The z of the bundle, (H, Z), chosen for this teacher, and the deviation that fresh ones are drawn with."""
        return bundle_noise(self.teacher, seed), self.noise_scale
