"""The recipes of ten and fifty tasks keep the sizes that are asked of teacher and student."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.metaworld.mt.tasks import Which, vocabulary
from export.structures.config import StructureConfig
from export.structures.policy import StructurePolicy
from export.structures.recipe import read_recipe
from export.structures.train import make_backbone

MT = Path("examples/metaworld/mt")
MOST, SMALL_MB = 12e6, 30.0  # parameters of a student that keeps its teacher's depth; the teacher's committed weights


@pytest.mark.parametrize("which", ["mt10", "mt50"])
def test_a_student_of_full_depth_is_small_enough(which: Which) -> None:
    recipe = read_recipe(MT / f"{which}.toml")
    told = {**recipe.policy, "pictures": 1, "state": 4, "actions": 4}
    policy = StructurePolicy(StructureConfig.from_dict(told), make_backbone(recipe.backbone, len(vocabulary(which))))
    parameters = sum(weight.numel() for weight in policy.parameters())
    assert 5e6 < parameters <= MOST
    assert 2e-6 * parameters <= SMALL_MB
    assert all(f"out/{which}/" in stage.data for stage in recipe.stages)
