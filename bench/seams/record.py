"""Chunks of a real policy at every tick of episodes that it plays in Meta-World without any delay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.delay.think import StopAndThink
from edgevla.bundle.manifest import Manifest
from edgevla.errors import Refused, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import MAX_TICKS, Episode, Loop
from edgevla.sim.metaworld import MetaworldPlant

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """One episode of n ticks."""

    episode: Episode
    images: npt.NDArray[np.uint8]  # (n, h, w, 3) at each tick, before its command
    states: Float32  # (n, s)
    chunks: Float32  # (n, H, A) normalised, asked at each tick without a prefix
    start: Float32  # (A,) held before tick 0
    commanded: Float32  # (n, A) at zero delay: asked every r ticks, answered within the tick


class _Watched:
    """The plant, which also asks the policy at every tick and keeps what it saw and said."""

    def __init__(self, plant: MetaworldPlant, engine: PolicyEngine) -> None:
        self._plant, self._engine = plant, engine
        self.setpoint0 = plant.setpoint0
        self.rows: list[tuple[Any, ...]] = []

    def render(self) -> npt.NDArray[np.uint8]:
        return self._plant.render()

    def position(self) -> Float32:
        return self._plant.position()

    def step(self, setpoint: npt.NDArray[np.floating]) -> None:
        """Nothing has moved since the observation of this tick: the plant is seen as the loop saw it."""
        image, state = self._plant.render(), self._plant.position()
        chunk = self._engine.infer(image, state, np.zeros((0, len(setpoint)), np.float32))
        self.rows.append((image, state, chunk, np.asarray(setpoint, np.float32)))
        self._plant.step(setpoint)


def require_one_observation(manifest: Manifest) -> None:
    """A policy with a memory would be changed by being asked at every tick. Raises Refused."""
    if manifest.observations != 1 or manifest.timing.memory_ticks:
        todo = "take a policy that looks at one observation"
        got = "a memory" if manifest.timing.memory_ticks else manifest.observations
        raise Refused(explain("asking at every tick", "1 observation, no memory", got, todo))


def record(
    engine: PolicyEngine, episode: Episode, loop: Loop, reuse: MetaworldPlant | None = None
) -> tuple[Recording, MetaworldPlant]:
    """Plays the episode to its end at zero delay; also returns the plant, to be reused."""
    plant = MetaworldPlant(episode.task, episode.seed, episode.half_way, reuse)
    engine.set_instruction(episode.instruction)
    watched = _Watched(plant, engine)
    runner = StopAndThink(engine, watched, loop, 0)
    tick = 0
    while tick < MAX_TICKS and not plant.success:
        runner.tick(tick)
        tick += 1
    images, states, chunks, commanded = (np.stack(column) for column in zip(*watched.rows, strict=True))
    return Recording(episode, images, states, chunks, watched.setpoint0, commanded), plant
