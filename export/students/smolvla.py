"""A SmolVLA cut from a whole one: some of its layers, one step of its flow, prefixes held clean.

The scene is looked at by frozen layers; what is trained is the action expert and what leads into and out of it. So the
optimiser's state is that of the expert alone, a fifth of the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from export.students.interface import spec_from_dict, spec_to_dict
from export.students.pruned import OneStepStudent
from export.teachers.interface import TeacherPolicy
from export.teachers.lerobot.decoder import DecoderSizes
from export.teachers.lerobot.siglip import VisionSizes
from export.teachers.lerobot.smolvla import SmolVlaPolicy
from export.teachers.lerobot.smolvla_net import SmolVla, SmolVlaSizes, VlmSizes
from export.teachers.lerobot.smolvla_smaller import smaller
from export.teachers.lerobot.words import Words


def cut(policy: TeacherPolicy, depth: float, d_max: int) -> OneStepStudent:
    """The student with this share of the layers, in whole runs of self- and cross-attention.

    Raises:
        BadInput: an expert of fewer layers than the language model, from which runs cannot be chosen.
    """
    if not isinstance(policy, SmolVlaPolicy):
        raise TypeError(f"expected a SmolVlaPolicy, got {type(policy).__name__}")
    sizes = policy.net.sizes
    run = max(sizes.self_attn_every_n_layers, 1) if sizes.cross_attention else 1
    layers = run * max(1, round(depth * sizes.text.layers / run))
    small = smaller(policy, layers) if layers < sizes.text.layers else policy
    return _student(small.as_student(d_max), d_max)


def from_sizes(config: Mapping[str, Any]) -> SmolVlaPolicy:
    """A policy of random weights, frozen where a student's is."""
    vlm = config["sizes"]["vlm"]
    sizes = SmolVlaSizes(
        **{
            **config["sizes"],
            "vlm": VlmSizes(
                **{**vlm, "vision": VisionSizes(**vlm["vision"]), "text": DecoderSizes(**vlm["text"])},
            ),
        }
    )
    words = Words(None, config["tokenizer"], config["spec"]["max_tokens"], sizes.vlm.vocabulary)
    return SmolVlaPolicy(SmolVla(sizes), spec_from_dict(config["spec"]), words, config["teacher"], 1)


def _student(policy: SmolVlaPolicy, d_max: int) -> OneStepStudent:
    told = {
        "sizes": asdict(policy.net.sizes),
        "spec": spec_to_dict(policy.spec),
        "tokenizer": policy.words.name,
        "teacher": policy.sha256,
    }
    policy.requires_grad_(True)
    policy.net.vlm.requires_grad_(False)
    return OneStepStudent(policy, "smolvla", told, d_max)
