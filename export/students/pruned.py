"""A student made of the teacher's own layers: some of them, and one step of its flow instead of many.

A teacher of one's own offers it by a method `pruned(depth, d_max) -> Student` (`Prunable`); for those in `CUTTERS` it
is written already. Most need no class for that: a smaller policy of the same architecture, set to one step, is wrapped
into `OneStepStudent`. It answers the teacher's ten-step endpoint in one step after distillation, and it learns to
continue a prefix even where the teacher knows none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from edgevla.errors import Refused, explain
from export.onnx.stages import StageSpec
from export.students.interface import Student
from export.teachers.interface import Inputs, TeacherPolicy

Builder = Callable[[Mapping[str, Any]], TeacherPolicy]
# name in a file -> "module:function" that builds a policy of random weights from its sizes
BUILDERS: dict[str, str | Builder] = {
    "smolvla": "export.students.smolvla:from_sizes",
    "structure": "export.structures.student:from_sizes",
}
# name of a teacher's architecture -> "module:function" that cuts a student from it
CUTTERS = {"flow-teacher": "export.students.reference:cut", "smolvla": "export.students.smolvla:cut"}


@runtime_checkable
class Prunable(Protocol):
    """A teacher that a student can be cut from."""

    def pruned(self, depth: float, d_max: int) -> Student:
        """A student with this share of the layers, each with the teacher's weights, for prefixes up to d_max."""
        ...


def can_prune(teacher: TeacherPolicy) -> bool:
    """Whether a student can be cut from this teacher."""
    offers = isinstance(teacher, Prunable) and getattr(teacher, "can_be_cut", True)
    return offers or teacher.spec.name in CUTTERS


def require_prunable(teacher: TeacherPolicy) -> None:
    """Raises Refused: this teacher offers no student, or is in a precision that cannot be trained."""
    found = {str(p.dtype) for p in teacher.parameters()} - {"torch.float32"}
    if found:
        todo = "load it with --teacher-precision fp32, or take a compact student"
        raise Refused(explain(f"a student cut from {teacher.spec.name}", "weights in float32", f"{found}", todo))
    if not can_prune(teacher):
        todo = "take a compact student, or write `pruned(depth, d_max)` (docs/distillation.md)"
        raise Refused(explain(f"a student cut from {teacher.spec.name}", "a method `pruned`", "none", todo))


def prune(teacher: TeacherPolicy, depth: float, d_max: int) -> Student:
    """The student cut from a teacher.

    Raises:
        Refused: this teacher offers none, or is in a precision that cannot be trained.
    """
    require_prunable(teacher)
    if isinstance(teacher, Prunable):
        return teacher.pruned(depth, d_max)
    student: Student = _named(CUTTERS[teacher.spec.name])(teacher, depth, d_max)
    return student


def _named(place: str) -> Any:
    """module:function"""
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


def kept_layers(count: int, depth: float) -> list[int]:
    """Which of `count` layers to keep: that share, at least one, evenly spread, the first always.

    With more than one the last is kept too: the layers at both ends do what no other does.
    """
    keep = min(count, max(1, round(depth * count)))
    if keep == 1:
        return [0]
    return [round(i * (count - 1) / (keep - 1)) for i in range(keep)]


def select(layers: nn.ModuleList, kept: Sequence[int]) -> nn.ModuleList:
    """Those layers, the same modules."""
    return nn.ModuleList(layers[i] for i in kept)


class OneStepStudent(Student):
    """A policy of the teacher's architecture that is run for one step.

    Args:
        policy: answers in one step; its `stages` are the student's.
        builder: name in `BUILDERS` that makes it from `sizes`.
        sizes: JSON.
        d_max: longest prefix to be trained with.
    """

    kind = "one-step"

    def __init__(self, policy: TeacherPolicy, builder: str, sizes: Mapping[str, Any], d_max: int) -> None:
        super().__init__()
        self.policy, self._builder, self._sizes = policy, builder, dict(sizes)
        self.horizon, self.noise, self.d_max = policy.spec.horizon, policy.spec.noise, d_max
        self.register_buffer("fixed_noise", torch.zeros(self.horizon, self.noise))

    def forward(self, inputs: Inputs, noise: Tensor, prefix: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        context = self.policy.encode(inputs)
        chunk = self.policy.decode(context, noise, prefix, mask)
        return torch.where(mask > 0, prefix, chunk), self.policy.features(context)

    def stages(self) -> list[StageSpec]:
        return self.policy.stages()

    def to_config(self) -> dict[str, Any]:
        return {"builder": self._builder, "sizes": self._sizes, "d_max": self.d_max}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OneStepStudent:
        return cls(build(config["builder"], config["sizes"]), config["builder"], config["sizes"], config["d_max"])


def build(name: str, sizes: Mapping[str, Any]) -> TeacherPolicy:
    """A policy of random weights. Raises KeyError: a name that is not in `BUILDERS`."""
    builder = BUILDERS[name]
    policy: TeacherPolicy = (_named(builder) if isinstance(builder, str) else builder)(sizes)
    return policy
