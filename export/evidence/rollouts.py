"""Plays many episodes with one policy, on several processes, in the order they were asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import profiles
from edgevla.bundle.manifest import Timing
from edgevla.bundle.reader import open_bundle
from edgevla.control.timing import schedule_of
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Episode, Loop, Outcome, Policy, play
from export.channels import PERIOD_S, action_channels

BATCH = 5  # episodes of one scene handed to a process at once; loading a scene costs 0.2 s


@dataclass(frozen=True)
class PolicySpec:
    """A policy that a worker process can open by itself.

    kind: `int8` or `fp32` (the bundle's graphs), `teacher` (torch eager, from the bundle's noise, or from `noise` =
    seed and scale), `teacher-noise` (fresh noise at every inference), `blank` (the same, never given any words).
    """

    kind: str
    bundle: Path | None = None
    teacher: Path | None = None
    noise: tuple[int, float] | None = None

    def open(self) -> Policy:
        if self.kind in ("int8", "fp32"):
            return PolicyEngine(open_bundle(self._bundle()), float_model=self.kind == "fp32")
        return self._open_teacher()

    def loop(self) -> Loop:
        """The loop that the bundle declares; without one that of the reference policy."""
        return reference_loop() if self.bundle is None else loop_of(self.bundle)

    def _open_teacher(self) -> Policy:
        import torch

        from export.teachers.engine import TeacherEngine
        from export.teachers.folder import load_teacher
        from export.teachers.noise import draw_noise

        torch.set_num_threads(1)
        if self.teacher is None:
            raise ValueError(f"policy {self.kind}: expected a teacher folder, got none")
        teacher = load_teacher(self.teacher)
        if self.kind in ("blank", "teacher-noise"):
            return TeacherEngine(teacher, None, blank_words=self.kind == "blank")
        noise = open_bundle(self._bundle()).noise if self.noise is None else draw_noise(teacher, *self.noise)
        return TeacherEngine(teacher, noise)

    def _bundle(self) -> Path:
        if self.bundle is None:
            raise ValueError(f"policy {self.kind}: expected a bundle, got none")
        return self.bundle


def reference_loop() -> Loop:
    """The reference policy's loop on the host: horizon and prefix of its teacher, L, r and m of the target."""
    timing = Timing(PERIOD_S, horizon=32, d_max=8)
    return _loop(timing, "host", "metaworld-sawyer", action_channels())


def loop_of(bundle_path: Path) -> Loop:
    """The loop that the bundle declares, on its own target and arm."""
    manifest = open_bundle(bundle_path).manifest
    return _loop(manifest.timing, manifest.target, manifest.arm, [asdict(channel) for channel in manifest.channels])


def _loop(timing: Timing, target: str, arm: str, channels: Sequence[Mapping[str, Any]]) -> Loop:
    return Loop(
        schedule=schedule_of(timing, profiles.load_target(target)),
        arm=profiles.load_arm(arm),
        period_s=timing.period_s,
        kinds=tuple(str(channel["kind"]) for channel in channels),
        scale=tuple(float(channel["scale"]) for channel in channels),
        offset=tuple(float(channel["offset"]) for channel in channels),
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
_running: Loop | None = None


def _start(spec: PolicySpec) -> None:
    """Opens the policy once per worker process."""
    global _policy, _running
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore")
    _policy, _running = spec.open(), spec.loop()


def _play_batch(episodes: list[Episode]) -> list[Outcome]:
    if _policy is None or _running is None:
        raise RuntimeError("worker without a policy: expected _start to have run")
    plant, outcomes = None, []
    for episode in episodes:
        outcome, plant = play(_policy, episode, _running, plant)
        outcomes.append(outcome)
    return outcomes
