"""Which episodes the reference policy is judged on: fresh scenes, and sentences that training never saw."""

from __future__ import annotations

from edgevla.sim.lockstep import Episode
from edgevla.sim.metaworld import TASKS
from examples.metaworld.instructions import WORDINGS

FRESH_SEED = 9_000_000  # training scenes use seeds below 2,000,000
HALF_WAY_SEED = 9_500_000


def paired(per_task: int, first: int = 0) -> list[Episode]:
    """`per_task` scenes of each of the six tasks, grouped by task; `first` skips scenes already played."""
    return [_episode(task, FRESH_SEED + first + i, False) for task in TASKS for i in range(per_task)]


def half_way(per_instruction: int, first: int = 0) -> list[Episode]:
    """The same half-way scenes for both instructions of a mechanism; `first` skips scenes already played."""
    mechanisms = [task for task, spec in TASKS.items() if spec.mechanism]
    return [_episode(task, HALF_WAY_SEED + first + i, True) for task in mechanisms for i in range(per_instruction)]


def _episode(task: str, seed: int, half: bool) -> Episode:
    sentences = WORDINGS[task].held_out
    return Episode(task, seed, sentences[seed % len(sentences)], half)
