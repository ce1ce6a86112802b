"""CALVIN's count: five subtasks in a row, told one after the other; a chain ends at the first that fails. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgevla.errors import BadInput, explain

LENGTH = 5  # subtasks of a chain
CHAINS = 1_000  # of the published figures
STEPS = 360  # at most, of one subtask


@dataclass(frozen=True)
class Chain:
    """What was asked, and how many were done before the first that failed."""

    subtasks: tuple[str, ...]
    done: int

    def __post_init__(self) -> None:
        if len(self.subtasks) != LENGTH or not 0 <= self.done <= LENGTH:
            expected = f"{LENGTH} subtasks, of which 0 to {LENGTH} are done"
            got = f"{len(self.subtasks)} subtasks, {self.done} done"
            raise BadInput(explain("a chain", expected, got, "take the outcome of a whole chain"))


@dataclass(frozen=True)
class ChainScore:
    """`in_a_row[i]`: share of chains with at least i + 1 done; their sum is the average length."""

    chains: int
    average_length: float
    average_length_ci: tuple[float, float]  # 95 %, bootstrap over chains
    in_a_row: tuple[float, ...]
    subtasks: Mapping[str, tuple[int, int]]  # name -> done, tried

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def chain_score(chains: Sequence[Chain], seed: int = 0, resamples: int = 10_000) -> ChainScore:
    """Raises BadInput without a chain."""
    if not chains:
        raise BadInput(explain("a score of chains", "one chain or more", "none", "play some"))
    done = np.array([chain.done for chain in chains])
    counts = {name: (0, 0) for chain in chains for name in chain.subtasks[: chain.done + 1]}
    for chain in chains:
        for place, name in enumerate(chain.subtasks[: chain.done + 1]):
            won, tried = counts[name]
            counts[name] = (won + (place < chain.done), tried + 1)
    draws = np.random.default_rng(seed).multinomial(
        len(done), np.bincount(done, minlength=LENGTH + 1) / len(done), resamples
    )
    low, high = np.quantile(draws @ np.arange(LENGTH + 1) / len(done), [0.025, 0.975])
    return ChainScore(
        chains=len(done),
        average_length=float(done.mean()),
        average_length_ci=(float(low), float(high)),
        in_a_row=tuple(float((done > place).mean()) for place in range(LENGTH)),
        subtasks=dict(sorted(counts.items())),
    )
