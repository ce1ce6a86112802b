"""What is compared: three ways to use another robot's data, with all demonstrations and with ten of each task. Pure.

in-domain     the robot's own data alone
pre-train     both robots side by side for half of its frames, then its own alone
post-train    the other robot first, then its own alone

Each sees as many frames of its own robot; those of the other come on top, as many with pre-train as with post-train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from export.structures.recipe import BackboneAsk, Recipe, StageAsk
from export.study.cells import MAX_TOKENS

IN_DOMAIN, PRE_TRAIN, POST_TRAIN = "in-domain", "pre-train", "post-train"
RECIPES = (IN_DOMAIN, PRE_TRAIN, POST_TRAIN)
DEMONSTRATIONS = (0, 10)  # of each task; 0: all
LEARNING_RATE = 1e-3
PICTURE = (96, 96)  # height, width


@dataclass(frozen=True)
class Cell:
    """One training: a recipe, how many demonstrations of each task, a seed."""

    recipe: str
    demonstrations: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.recipe}-{self.demonstrations or 'all'}-{self.seed}"


def cells(seeds: int) -> list[Cell]:
    """All of them, seed by seed: what is there after a part of the time is a whole study of fewer seeds."""
    return [Cell(recipe, few, seed) for seed in range(seeds) for few in DEMONSTRATIONS for recipe in RECIPES]


def recipe_of(cell: Cell, policy: Mapping[str, Any], own: str, other: str, frames: int) -> Recipe:
    """The stages of a cell.

    Args:
        cell: which.
        policy: of `StructureConfig`, without what the data says.
        own, other: data sets.
        frames: encoder frames of the own robot, of all stages together; half as many of the other.
    """
    first = {
        IN_DOMAIN: [],
        PRE_TRAIN: [_stage("both robots", own, frames // 2, cell.demonstrations, (other,))],
        POST_TRAIN: [_stage("the other robot", other, frames // 2, 0)],
    }[cell.recipe]
    left = frames // 2 if cell.recipe == PRE_TRAIN else frames
    stages = (*first, _stage("in-domain", own, left, cell.demonstrations))
    return Recipe(cell.seed, policy, MAX_TOKENS, BackboneAsk(PICTURE, None, {}, (), 0), stages)


def _stage(name: str, data: str, frames: int, few: int, beside: tuple[str, ...] = ()) -> StageAsk:
    return StageAsk(name, data, frames, LEARNING_RATE, few, 0.0, beside)
