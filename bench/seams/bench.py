"""One policy, its recordings, and lines of the table: one way at one delay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.seams.joins import Join, Said
from bench.seams.live import Joined
from bench.seams.measure import Trajectory, between_seams, distance, follow, jumps, spread
from bench.seams.record import Recording, record, require_one_observation
from edgevla.bundle.reader import open_bundle
from edgevla.control.commands import Units
from edgevla.control.limiter import Limits, limits_of
from edgevla.policy.blend import takes_prefix
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Episode, Loop, Plant, Policy, play
from edgevla.sim.metaworld import MetaworldPlant
from examples.metaworld.episodes import paired
from export.distill.progress import Reporter
from export.evidence.rollouts import PolicySpec

FIRST_SCENE = 4_000  # see bench.delay: nobody else's scenes


def comfortable(loop: Loop) -> Limits:
    """The arm's limits, with the deceleration of its stop as the largest acceleration."""
    limits = limits_of(loop.arm, loop.period_s)
    return replace(limits, max_acceleration=limits.stop_deceleration)


class Bench:
    """One policy, its recordings, and the ways to join them."""

    def __init__(self, bundle: Path, per_task: int) -> None:
        opened = open_bundle(bundle)
        require_one_observation(opened.manifest)
        spec = PolicySpec("int8", bundle)
        self.policy, self.engine, self.loop = spec.identity(), PolicyEngine(opened), spec.loop()
        self.with_prefix = takes_prefix(opened.manifest)
        spaces = [channel.space for channel in opened.manifest.channels]
        self.moving = [i for i, space in enumerate(spaces) if space != "gripper"]
        loop = self.loop
        self.units = Units(loop.kinds, np.array(loop.scale), np.array(loop.offset), loop.period_s)
        self.limits = comfortable(loop)
        self._plants: dict[str, MetaworldPlant] = {}
        self.recordings = self._record(per_task)

    def _record(self, per_task: int) -> list[Recording]:
        episodes, found = paired(per_task, FIRST_SCENE), list[Recording]()
        reporter = Reporter("recording", len(episodes))
        for episode in episodes:
            recording, plant = record(self.engine, episode, self.loop, self._plants.get(episode.task))
            self._plants[episode.task] = plant
            found.append(recording)
            reporter.show(len(found))
        reporter.close()
        return found

    def line(self, name: str, way: Callable[[Said, int], Join], delay: int, absolute: bool) -> dict[str, Any]:
        """One way at one delay, over all recordings."""
        free = [self._follow(recording, way, delay, absolute, None) for recording in self.recordings]
        held = [self._follow(recording, way, delay, absolute, self.limits) for recording in self.recordings]
        ticks = sum(len(recording.commanded) for recording in self.recordings)
        return {
            "way": name,
            "delay": delay,
            "asked_per_s": sum(run.asked for run in free) / (ticks * self.loop.period_s),
            "seams": int(sum(run.seams.sum() for run in free)),
            "wanted": self._jumps(free),
            "limited": self._jumps(held),
            "distance": spread([np.array([self._distance(run, i, absolute)]) for i, run in enumerate(free)]),
        }

    def _follow(
        self,
        recording: Recording,
        way: Callable[[Said, int], Join],
        delay: int,
        absolute: bool,
        limits: Limits | None,
    ) -> Trajectory:
        self.engine.set_instruction(recording.episode.instruction)
        said = Said(recording, self.engine, self.units, self.loop.schedule.horizon, absolute)
        return follow(way(said, delay), recording, limits, self.loop.period_s)

    def _jumps(self, runs: Sequence[Trajectory]) -> dict[str, Any]:
        found = [jumps(run.commanded, run.seams, self.moving, self.loop.period_s) for run in runs]
        return {
            "velocity_m_s": spread([part.velocity for part in found]),
            "acceleration_m_s2": spread([part.acceleration for part in found]),
        }

    def _distance(self, run: Trajectory, number: int, absolute: bool) -> float:
        return distance(run.commanded, self.recordings[number], self.moving, absolute, self.loop.period_s)

    def closed(self, name: str, way: Callable[[Said, int], Join], delay: int) -> dict[str, Any]:
        """One way at one delay in closed loop, on the scenes of the recordings."""
        runs = [self._live(recording.episode, way, delay) for recording in self.recordings]
        rest = [jumps(run.commanded, between_seams(run), self.moving, self.loop.period_s) for run in runs]
        return {
            "way": name,
            "delay": delay,
            "seams": int(sum(run.seams.sum() for run in runs)),
            "wanted": self._jumps(runs),
            "between_seams": {"velocity_m_s": spread([part.velocity for part in rest])},
        }

    def _live(self, episode: Episode, way: Callable[[Said, int], Join], delay: int) -> Trajectory:
        runners: list[Joined] = []

        def run(policy: Policy, plant: Plant, loop: Loop) -> Joined:
            runners.append(Joined(policy, plant, loop, way, delay))
            return runners[-1]

        self._plants[episode.task] = play(self.engine, episode, self.loop, self._plants.get(episode.task), run)[1]
        return runners[-1].trajectory()

    def inside(self) -> dict[str, Any]:
        """The same measures where no chunk begins: what the policy itself changes from tick to tick."""
        replan = self.loop.schedule.replan
        runs = []
        for recording in self.recordings:
            commanded = np.vstack([recording.start[None], recording.commanded])
            part = np.arange(len(recording.commanded)) % replan
            runs.append(jumps(commanded, part >= 2, self.moving, self.loop.period_s))
        return {
            "velocity_m_s": spread([part.velocity for part in runs]),
            "acceleration_m_s2": spread([part.acceleration for part in runs]),
        }
