"""What is compared: five structures, on the plain tasks and where a random half of the frames is black. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from export.structures.config import INTERLEAVED, ONE_STEP, POLICY_HEAD, StructureConfig
from export.structures.families.ours import Ours, OwnModel, OwnSizes
from export.structures.policy import StructurePolicy

VARIANTS = {"plain": 0.0, "dark": 0.5}  # share of black frames, in training and in the episodes
WINDOW = 8  # moments of history
STRIDE, HORIZON, D_MAX, MAX_TOKENS = 8, 32, 8, 16  # ticks, ticks, ticks, words: those of the reference policy
PARAMETERS = 2_000_000
TOLERANCE = 0.03  # share of PARAMETERS that a cell may differ by
_STEP = 8  # widths are multiples


@dataclass(frozen=True)
class Kind:
    """A structure with its head and history."""

    name: str
    structure: str
    head: str
    window: int


KINDS = (
    Kind("one-step discrete", ONE_STEP, "discrete", 1),
    Kind("one-step continuous", ONE_STEP, "mlp", 1),
    Kind("interleaved continuous, 8", INTERLEAVED, "mlp", WINDOW),
    Kind("policy head continuous, 8", POLICY_HEAD, "lstm", WINDOW),
    Kind("policy head continuous, 1", POLICY_HEAD, "lstm", 1),
)


@dataclass(frozen=True)
class Cell:
    """One training: a kind, a variant of the tasks, a seed."""

    kind: Kind
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        told = self.kind.name.replace(",", "").replace(" ", "-")
        return f"{told}-{self.variant}-{self.seed}"


def cells(seeds: int) -> list[Cell]:
    """All of them, seed by seed: what is there after a part of the time is a whole study of fewer seeds."""
    return [Cell(kind, variant, seed) for seed in range(seeds) for variant in VARIANTS for kind in KINDS]


def config_of(kind: Kind, width: int) -> StructureConfig:
    return StructureConfig(
        structure=kind.structure, head=kind.head, window=kind.window, stride=STRIDE, pictures=1, state=4, actions=4,
        horizon=HORIZON, d_max=D_MAX, width=width,
    )  # fmt: skip


def policy_of(config: StructureConfig, words: int) -> StructurePolicy:
    """With random weights. words: of the vocabulary, without the padding."""
    sizes = OwnSizes(words + 1)
    return StructurePolicy(config, Ours(OwnModel(sizes), sizes.picture))


def fitted(kind: Kind, words: int, count: Callable[[StructurePolicy], int]) -> StructureConfig:
    """The config whose policy comes nearest to PARAMETERS: only what stands behind the backbone changes its width.

    Raises ValueError: none comes near.
    """
    widths = range(_STEP * 4, 1024, _STEP)
    low, high = 0, len(widths) - 1
    while low < high:  # parameters grow with the width
        middle = (low + high) // 2
        if count(policy_of(config_of(kind, widths[middle]), words)) < PARAMETERS:
            low = middle + 1
        else:
            high = middle
    near = [config_of(kind, widths[i]) for i in {max(low - 1, 0), low}]
    best = min(near, key=lambda c: abs(count(policy_of(c, words)) - PARAMETERS))
    if abs(count(policy_of(best, words)) - PARAMETERS) > TOLERANCE * PARAMETERS:
        raise ValueError(f"{kind.name}: no width gives {PARAMETERS} parameters within {TOLERANCE:.0%}")
    return best
