"""The teacher in torch eager, behind the same interface as the run-time engine: for rollouts, targets and latency."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgevla.policy.preprocess import Float32, image_tensor, prefix_tensors, state_tensor
from edgevla.policy.setpoints import integrate
from export.channels import ACTION_HIGH, ACTION_LOW, ACTION_SCALE, IS_DELTA, TRAINING_CAMERA
from export.teachers.folder import Teacher
from export.teachers.noise import noise_scale


class TeacherEngine:
    """Observation in, action chunk out, ten flow steps of torch eager on one thread.

    Args:
        teacher: a loaded teacher.
        noise: float32 (H, A), the z to start from; None draws one at every call, of the deviation in the config.
        blank_words: feed no words, whatever the instruction (the control of the words-matter proof).
    """

    def __init__(self, teacher: Teacher, noise: Float32 | None, seed: int = 0, blank_words: bool = False) -> None:
        self._teacher, self._model = teacher, teacher.model
        self._noise = None if noise is None else torch.from_numpy(noise)[None]
        self._scale = noise_scale(teacher)
        self._generator = torch.Generator().manual_seed(seed)
        self._blank = blank_words
        self._tokens = torch.zeros(1, teacher.model.config.max_tokens, dtype=torch.int64)

    def set_instruction(self, text: str) -> None:
        tokens = self._teacher.vocabulary.encode(text)
        self._tokens = torch.from_numpy(np.zeros_like(tokens) if self._blank else tokens)[None]

    @torch.inference_mode()
    def infer(self, image: npt.NDArray[np.uint8], state: Float32, prefix: Float32) -> Float32:
        config = self._model.config
        pixels = image_tensor(image, TRAINING_CAMERA)
        body = state_tensor(state, self._teacher.state_mean, self._teacher.state_std)
        rows, mask = prefix_tensors(prefix, config.horizon, config.d_max)
        encoded = self._model.encode(torch.from_numpy(pixels), self._tokens, torch.from_numpy(body))
        chunk = self._model.integrate(*encoded, self._draw(), torch.from_numpy(rows), torch.from_numpy(mask))
        return np.ascontiguousarray(chunk[0].numpy())

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32:
        return integrate(chunk * ACTION_SCALE, anchor, d, IS_DELTA, ACTION_LOW, ACTION_HIGH)

    def _draw(self) -> Tensor:
        if self._noise is not None:
            return self._noise
        config = self._model.config
        return self._scale * torch.randn((1, config.horizon, config.actions), generator=self._generator)
