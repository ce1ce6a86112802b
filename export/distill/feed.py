"""Rows of a source as the inputs of a model, teacher or student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgevla.errors import BadInput, explain
from edgevla.policy.preprocess import fitted
from edgevla.policy.tokens import Vocabulary
from export.distill.source import Pictures
from export.students.interface import Feeding
from export.teachers.interface import CameraSpec, TeacherPolicy

Array = npt.NDArray[Any]
_AROUND = ".,;:!?\"'()"  # what `Vocabulary` takes off a word; if that changes, its `encode` below says so


def words_of(sentences: Sequence[str]) -> tuple[str, ...]:
    """The words of all sentences, sorted."""
    parts = (word.strip(_AROUND) for sentence in sentences for word in sentence.lower().split())
    return tuple(sorted({word for word in parts if word}))


class Feed:
    """Pictures fitted to the model's size, sentences as its tokens.

    Args:
        feeding: what the model takes.
        sentences: of the source, by number.
        present: per camera whether the source has it.
        teacher: whose tokenizer to ask, for a model that hears the teacher's tokens.
    """

    def __init__(
        self,
        feeding: Feeding,
        sentences: Sequence[str],
        present: Sequence[bool],
        teacher: TeacherPolicy | None = None,
    ) -> None:
        self._feeding = feeding
        self._seen = torch.tensor(list(present) * feeding.observations, dtype=torch.float32)
        self._tokens = self._mask = None
        if feeding.teacher_tokens and teacher is not None:
            pairs = [teacher.tokenize(text) for text in sentences]
            self._tokens, self._mask = (torch.from_numpy(np.stack(column)) for column in zip(*pairs, strict=True))
        elif feeding.words:
            vocabulary = Vocabulary(feeding.words, feeding.max_tokens)
            self._tokens = torch.from_numpy(np.stack([vocabulary.encode(text) for text in sentences]))
            self._mask = (self._tokens > 0).float()

    def __call__(self, pictures: Pictures, state: Array, sentence: Array) -> dict[str, Tensor]:
        """Inputs from raw pictures, T * N of them, normalised state (B, T * S) and sentences (B,)."""
        cameras = self._feeding.cameras * self._feeding.observations
        shown = np.stack([fit(raw, camera) for raw, camera in zip(pictures, cameras, strict=True)], axis=1)
        inputs = {
            "image": torch.from_numpy(shown),
            "camera_mask": self._seen.expand(len(shown), -1),
            "state": torch.as_tensor(state),
        }
        picked = torch.as_tensor(sentence)
        if self._tokens is not None:
            inputs["tokens"] = self._tokens[picked]
        if self._mask is not None:
            inputs["token_mask"] = self._mask[picked]
        return inputs


def fit(images: npt.NDArray[np.uint8], camera: CameraSpec) -> npt.NDArray[np.float32]:
    """uint8 (B, h, w, 3) to float32 (B, height, width, 3) in [-1, 1], as the robot does it.

    Raises:
        BadInput: another size where the camera says `exact`.
    """
    size, wanted = images.shape[1:3], (camera.height, camera.width)
    if size != wanted and camera.fit == "exact":
        got, todo = f"{size[0]} x {size[1]}", "record them so"
        raise BadInput(explain(f"pictures of camera {camera.name}", f"{wanted[0]} x {wanted[1]} pixels", got, todo))
    values = images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return values if size == wanted else fitted(values, *wanted, camera.fit)


def teacher_feed(teacher: TeacherPolicy, sentences: Sequence[str], present: Sequence[bool]) -> Feed:
    """What the teacher itself takes."""
    spec = teacher.spec
    feeding = Feeding(spec.cameras, spec.observations, max_tokens=spec.max_tokens, teacher_tokens=spec.max_tokens > 0)
    return Feed(feeding, sentences, present, teacher)
