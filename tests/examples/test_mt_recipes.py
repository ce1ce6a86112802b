"""The recipes of ten and fifty tasks keep the sizes that are asked of teacher and student."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from examples.metaworld.mt.tasks import Which, vocabulary
from export.distill.loop import Recipe, Run
from export.shards import MIB, files_of
from export.structures.config import StructureConfig
from export.structures.policy import StructurePolicy
from export.structures.recipe import read_recipe
from export.structures.train import make_backbone

MT = Path("examples/metaworld/mt")
MOST, SMALL_MB = 12e6, 30.0  # parameters of a student that keeps its teacher's depth; the teacher's committed weights


def policy_of(which: Which) -> StructurePolicy:
    recipe = read_recipe(MT / f"{which}.toml")
    told = {**recipe.policy, "pictures": 1, "state": 4, "actions": 4}
    return StructurePolicy(StructureConfig.from_dict(told), make_backbone(recipe.backbone, len(vocabulary(which))))


@pytest.mark.parametrize("which", ["mt10", "mt50"])
def test_a_student_of_full_depth_is_small_enough(which: Which) -> None:
    recipe, policy = read_recipe(MT / f"{which}.toml"), policy_of(which)
    parameters = sum(weight.numel() for weight in policy.parameters())
    assert 5e6 < parameters <= MOST
    assert 2e-6 * parameters <= SMALL_MB
    assert all(f"out/{which}/" in stage.data for stage in recipe.stages)


def test_what_fifty_tasks_need_to_go_on_travels_in_files_of_fifteen_mebibytes(tmp_path: Path) -> None:
    run = Run(policy_of("mt50"), Recipe(1.0), tmp_path / "checkpoint.safetensors", 15 * MIB)
    for weight in run.trained.values():
        weight.grad = torch.zeros_like(weight)
    run.optimiser.step()  # its two moments are most of what is kept
    run.save()
    sizes = [file.stat().st_size for file in files_of(run.path)]
    assert max(sizes) <= 15 * MIB
    assert sum(sizes) > 16 * sum(weight.numel() for weight in run.trained.values())
    assert run.resume()
