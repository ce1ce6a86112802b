"""Which episodes the policies are judged on: fresh scenes, and sentences that training never saw, the same for all."""

from __future__ import annotations

from collections.abc import Sequence

from edgevla.sim.lockstep import Episode
from edgevla.sim.metaworld import TASKS
from examples.metaworld.mt.tasks import MtTask, Which, tasks

FRESH_SEED = 9_000_000  # training scenes use seeds below 2,000,000
PRACTICE_SEED = 9_200_000
HALF_WAY_SEED = 9_500_000


def fresh(which: Which | Sequence[MtTask], per_task: int, first: int = 0) -> list[Episode]:
    """`per_task` scenes of each task of the set, grouped by task; `first` skips scenes already played."""
    judged = tasks(which) if isinstance(which, str) else which
    return [_episode(task, FRESH_SEED + first + i, False) for task in judged for i in range(per_task)]


def practice(known: Sequence[MtTask], per_task: int) -> list[Episode]:
    """Scenes to choose by, with sentences of the training: neither has a part in what a policy is judged on."""
    seeds = range(PRACTICE_SEED, PRACTICE_SEED + per_task)
    return [Episode(task.name, seed, task.train[seed % len(task.train)]) for task in known for seed in seeds]


def half_way(per_instruction: int, which: Which | Sequence[MtTask] = "mt10") -> list[Episode]:
    """The same half-way scenes for both instructions of a drawer and of a window."""
    known = tasks(which) if isinstance(which, str) else which
    both = [task for task in known if task.name in TASKS and TASKS[task.name].mechanism is not None]
    return [_episode(task, HALF_WAY_SEED + i, True) for task in both for i in range(per_instruction)]


def _episode(task: MtTask, seed: int, half: bool) -> Episode:
    return Episode(task.name, seed, task.held_out[seed % len(task.held_out)], half)
