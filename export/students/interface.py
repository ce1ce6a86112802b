"""What a student is to the rest of the pipeline, and how one is kept in a file. Shapes as in `teachers/interface.py`.

A kind of student is a class with a name in `KINDS`; the file holds that name, the sizes (`to_config`), how the student
is to be fed (`Feeding`) and the weights, so it can be loaded without knowing what made it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgevla.errors import BadInput, explain
from export.onnx.stages import StageSpec
from export.teachers.interface import Affine, CameraSpec, Inputs, TeacherPolicy, TeacherSpec

KINDS = {"one-pass": "export.students.onepass:OnePassStudent", "one-step": "export.students.pruned:OneStepStudent"}


@dataclass(frozen=True)
class Feeding:
    """What becomes of raw observations before a student sees them; travels with its weights."""

    cameras: tuple[CameraSpec, ...]
    observations: int = 1  # T
    words: tuple[str, ...] = ()  # of its own; ids count from 1
    max_tokens: int = 0
    teacher_tokens: bool = False  # it hears what the teacher's tokenizer says, with a mask

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Feeding:
        cameras = tuple(CameraSpec(**camera) for camera in values["cameras"])
        return Feeding(**{**values, "cameras": cameras, "words": tuple(values["words"])})


def teacher_feeding(teacher: TeacherPolicy, observations: int) -> Feeding:
    """As the teacher is fed. One with words of its own shares them: its bundle hears every sentence made of them."""
    spec, words = teacher.spec, teacher.known if teacher.spec.max_tokens else ()
    asks = spec.max_tokens > 0 and not words
    return Feeding(spec.cameras, observations, words, spec.max_tokens, teacher_tokens=asks)


def spec_to_dict(spec: TeacherSpec) -> dict[str, Any]:
    """As JSON."""
    stats = {name: {k: v.tolist() for k, v in vars(getattr(spec, name)).items()} for name in _STATS}
    return {**asdict(spec), **stats}


def spec_from_dict(values: Mapping[str, Any]) -> TeacherSpec:
    """What `spec_to_dict` wrote."""
    stats = {name: Affine(*(np.array(values[name][k], np.float32) for k in ("offset", "scale"))) for name in _STATS}
    cameras = tuple(CameraSpec(**camera) for camera in values["cameras"])
    names = {name: tuple(values[name]) for name in ("state", "actions")}
    return TeacherSpec(**{**values, **stats, **names, "cameras": cameras})


_STATS = ("state_stats", "action_stats")


class Student(nn.Module, ABC):
    """A policy of one pass: observation, noise and prefix in, action chunk out.

    `fixed_noise` is the z (H, Z) that a bundle carries: it travels with the weights and is an input of the graph.
    """

    kind: ClassVar[str]
    horizon: int  # H
    d_max: int
    noise: int  # Z; 0: it takes none
    fixed_noise: Tensor

    @abstractmethod
    def forward(self, inputs: Inputs, noise: Tensor, prefix: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Chunk (B, H, A), prefix rows kept, and observation tokens (B, M, W) that a teacher's may be matched with."""

    @abstractmethod
    def stages(self) -> list[StageSpec]:
        """Graphs in the order they run, with example inputs of batch 1."""

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """What `from_config` needs to build it again; JSON."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Student:
        """Built anew, weights random."""

    def float_layers(self) -> frozenset[str]:
        """Names of linear layers that the int8 artifact leaves in float whatever their size."""
        return frozenset()

    @property
    def parameters_total(self) -> int:
        return sum(p.numel() for p in self.parameters())


@dataclass(frozen=True)
class SavedStudent:
    """A student with what is told beside its weights."""

    student: Student
    feeding: Feeding
    sha256: str
    notes: dict[str, Any] = field(default_factory=dict)  # progress, seam, finishing, ...


def save_student(path: Path, student: Student, feeding: Feeding, notes: Mapping[str, Any]) -> None:
    """Writes one safetensors file, whole or not at all.

    Raises:
        BadInput: the disk is full.
    """
    weights = {name: value.detach().contiguous() for name, value in student.state_dict().items()}
    told = {"kind": student.kind, "config": student.to_config(), "feeding": feeding.to_dict(), "notes": dict(notes)}
    temporary = path.with_name(f".{path.stem}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(weights, temporary, metadata={name: json.dumps(value) for name, value in told.items()})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise BadInput(
            explain("cannot write the student", f"room in {path.parent}", str(error), "free space")
        ) from error


def load_student(path: Path) -> SavedStudent:
    """Reads what `save_student` wrote, ready to answer.

    Raises:
        BadInput: no such file, a part of one, a kind or sizes that it does not fit.
    """
    try:
        with safe_open(path, framework="pt") as archive:
            told = {name: json.loads(value) for name, value in (archive.metadata() or {}).items()}
            weights = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
        student = student_class(told["kind"]).from_config(told["config"])
        student.load_state_dict(weights)
        feeding = Feeding.from_dict(told["feeding"])
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        todo = "delete it and run again"
        raise BadInput(explain("student weights", f"a whole {path.name}", f"{error}", todo)) from error
    bad = [name for name, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise BadInput(explain("student weights", "finite numbers", f"NaN or infinity in {bad[0]}", "distil again"))
    return SavedStudent(student.eval(), feeding, hashlib.sha256(path.read_bytes()).hexdigest(), told.get("notes", {}))


def student_class(kind: str) -> type[Student]:
    """The class of a kind. A table, so that a file cannot name code to run.

    Raises:
        KeyError: a kind that is not in `KINDS`.
    """
    module, _, name = KINDS[kind].partition(":")
    found: type[Student] = getattr(importlib.import_module(module), name)
    return found


class Method(nn.Module):
    """A method of a student, or of another module, as a module of its own, to be traced."""

    def __init__(self, student: nn.Module, method: str) -> None:
        super().__init__()
        self.student, self.method = student, method

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        result: Tensor | tuple[Tensor, ...] = getattr(self.student, self.method)(*inputs)
        return result
