"""Plays many episodes with one policy, on several processes, in the order they were asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

import profiles
from edgevla.bundle.reader import open_bundle
from edgevla.control.timing import schedule_of
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Episode, Loop, Outcome, Policy, play

BATCH = 5  # episodes of one scene handed to a process at once; loading a scene costs 0.2 s


@dataclass(frozen=True)
class PolicySpec:
    """A policy that a worker process can open by itself.

    kind: `int8` or `fp32` (the bundle's graphs), `teacher` (torch eager, from the bundle's noise), `blank` (the same
    for a teacher that was trained without words), `teacher-noise` (fresh noise at every inference).
    """

    kind: str
    bundle: Path
    teacher: Path | None = None

    def open(self) -> Policy:
        if self.kind in ("int8", "fp32"):
            return PolicyEngine(open_bundle(self.bundle), float_model=self.kind == "fp32")
        import torch

        from export.teachers.engine import TeacherEngine
        from export.teachers.folder import load_teacher

        torch.set_num_threads(1)
        if self.teacher is None:
            raise ValueError(f"policy {self.kind}: expected a teacher folder, got none")
        noise = None if self.kind == "teacher-noise" else open_bundle(self.bundle).noise
        return TeacherEngine(load_teacher(self.teacher), noise, blank_words=self.kind == "blank")


def loop_of(bundle_path: Path) -> Loop:
    """The loop that the bundle declares, on its own target and arm."""
    manifest = open_bundle(bundle_path).manifest
    return Loop(
        schedule=schedule_of(manifest.timing, profiles.load_target(manifest.target)),
        arm=profiles.load_arm(manifest.arm),
        period_s=manifest.timing.period_s,
        kinds=tuple(channel.kind for channel in manifest.channels),
        scale=tuple(channel.scale for channel in manifest.channels),
    )


def play_all(
    spec: PolicySpec,
    episodes: Sequence[Episode],
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Outcome]:
    """Outcomes in the order of the episodes. `progress` gets the number of finished episodes."""
    batches = _batches(episodes)
    done, outcomes = 0, []
    context = get_context("spawn")  # torch and MuJoCo do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(spec,)) as pool:
        for result in pool.map(_play_batch, batches):
            outcomes += result
            done += len(result)
            progress(done)
    return outcomes


def _batches(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """Runs of the same scene, cut to BATCH, order kept."""
    runs = (list(group) for _, group in groupby(episodes, key=lambda e: (e.task, e.half_way)))
    return [run[i : i + BATCH] for run in runs for i in range(0, len(run), BATCH)]


_policy: Policy | None = None
_loop: Loop | None = None


def _start(spec: PolicySpec) -> None:
    """Opens the policy once per worker process."""
    global _policy, _loop
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore")
    _policy, _loop = spec.open(), loop_of(spec.bundle)


def _play_batch(episodes: list[Episode]) -> list[Outcome]:
    if _policy is None or _loop is None:
        raise RuntimeError("worker without a policy: expected _start to have run")
    plant, outcomes = None, []
    for episode in episodes:
        outcome, plant = play(_policy, episode, _loop, plant)
        outcomes.append(outcome)
    return outcomes
