"""A student of a policy of the family: the same structure and memory, one pass instead of many steps, fewer layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from edgevla.errors import Refused, explain
from export.structures.backbone import Backbone
from export.structures.config import StructureConfig
from export.structures.families.ours import Ours, OwnModel
from export.structures.heads.flow import Flow, OnePass
from export.structures.policy import StructurePolicy
from export.structures.teacher import StructureTeacher, backbone_from_dict, backbone_to_dict
from export.students.interface import spec_from_dict, spec_to_dict
from export.students.pruned import OneStepStudent, kept_layers
from export.teachers.reference import waves

ONE_PASS = {"flow": "flow-one-pass", "diffusion": "flow-one-pass"}  # a head of many steps -> what is taught its end


def cut(teacher: StructureTeacher, depth: float, d_max: int) -> OneStepStudent:
    """A student with this share of the language layers, with the teacher's weights wherever a shape is the same. With
    all of them only the head is taught.

    Raises:
        Refused: fewer layers of a pre-trained backbone, or a policy that the language model speaks.
    """
    old = teacher.policy
    if old.head is None:
        todo = "train a policy with head discrete, which answers all at once"
        raise Refused(explain("a student of a policy that speaks", "a head", old.config.head, todo))
    config = replace(old.config, head=ONE_PASS.get(old.config.head, old.config.head), d_max=d_max)
    backbone = shallow(old.backbone, depth)
    policy = StructurePolicy(config, backbone)
    _give(policy, old)
    _begin(policy, old)
    if depth >= 1.0 and policy.head is not None:
        policy.requires_grad_(False)  # what it sees is what its teacher sees: taught on less, it would forget
        policy.head.requires_grad_(True)
    spec = replace(teacher.spec, d_max=d_max)
    made = StructureTeacher(policy, spec, teacher.known, None, teacher.sha256)
    told = {
        "structure": config.to_dict(), "backbone": backbone_to_dict(backbone), "spec": spec_to_dict(spec),
        "words": list(teacher.known), "teacher": teacher.sha256,
    }  # fmt: skip
    return OneStepStudent(made, "structure", told, d_max)


def shallow(backbone: Backbone, depth: float) -> Backbone:
    """A backbone of some of the layers, with their weights. Raises Refused: a pre-trained one of fewer."""
    copy = backbone_from_dict(backbone_to_dict(backbone))
    copy.load_state_dict(backbone.state_dict())
    if depth >= 1.0:
        return copy
    if not isinstance(copy, Ours):
        todo = "pass --depth 1, or train a smaller policy from scratch"
        raise Refused(explain(f"--depth of a student of {backbone.family}", "1", depth, todo))
    kept = kept_layers(len(copy.model.layers), depth)
    small = OwnModel(replace(copy.model.sizes, layers=len(kept)))
    own = {n: v for n, v in copy.model.state_dict().items() if not n.startswith("layers.")}
    small.load_state_dict(own, strict=False)
    for mine, number in zip(small.layers, kept, strict=True):
        mine.load_state_dict(copy.model.layers[number].state_dict())
    return Ours(small, copy.picture)


def from_sizes(told: Mapping[str, Any]) -> StructureTeacher:
    """The student's policy with random weights."""
    policy = StructurePolicy(StructureConfig.from_dict(told["structure"]), backbone_from_dict(told["backbone"]))
    return StructureTeacher(policy, spec_from_dict(told["spec"]), tuple(told["words"]), None, told["teacher"])


@torch.no_grad()
def _begin(policy: StructurePolicy, old: StructurePolicy) -> None:
    """One pass begins as the first step of the teacher's flow taken to the end: what time tells there never changes."""
    if isinstance(policy.head, OnePass) and isinstance(old.head, Flow):
        policy.head.trunk.condition.bias.add_(old.head.time(waves(torch.zeros(1)))[0])


def _give(policy: StructurePolicy, old: StructurePolicy) -> None:
    """Copies what stands behind the backbone and has the same shape."""
    mine = policy.state_dict()
    kept = {
        name: value
        for name, value in old.state_dict().items()
        if not name.startswith("backbone.") and name in mine and mine[name].shape == value.shape
    }
    policy.load_state_dict(kept, strict=False)
