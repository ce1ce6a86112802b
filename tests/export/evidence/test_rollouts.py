"""Many episodes on several processes: what stops the caller ends them, and what is disturbed is played disturbed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from typing import Any

from edgevla.sim.lockstep import Episode, Loop, Plant, Policy, Runner
from export.evidence.rollouts import PolicySpec, Run, Worker, stream

HALVES = [Episode("drawer-open-v3", seed, "open the drawer", True) for seed in range(3, 43)]


@dataclass(frozen=True)
class Ended:
    """A disturbance that counts the episodes it is asked for."""

    changes_scene: bool
    name: str = "ended 1"

    def run(self, episode: Episode) -> Run:
        def made(policy: Policy, plant: Plant, loop: Loop) -> Runner:
            SEEN.append((episode.seed, plant))
            return Runner(policy, plant, loop)

        return made


SEEN: list[tuple[int, Any]] = []


def test_a_caller_that_stops_does_not_wait_for_the_episodes_that_are_left(tiny_bundle_path: Path) -> None:
    before = set(active_children())
    parts = stream(PolicySpec("int8", tiny_bundle_path), HALVES, 1)
    assert len(next(parts)) == 5
    begun = time.monotonic()
    parts.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 5
    assert set(active_children()) <= before


def test_a_disturbance_is_asked_for_every_episode_and_a_changed_scene_is_not_used_again(tiny_bundle_path: Path) -> None:
    for changes_scene in (False, True):
        SEEN.clear()
        spec = PolicySpec("int8", tiny_bundle_path, disturbance=Ended(changes_scene))
        Worker(spec).play(HALVES[:2])
        assert [seed for seed, _ in SEEN] == [3, 4]
        (_, first), (_, second) = SEEN
        assert (first._env is second._env) is not changes_scene
    SEEN.clear()  # plants end before their renderer does
    assert spec.identity() == f"{PolicySpec('int8', tiny_bundle_path).identity()}, ended 1"
