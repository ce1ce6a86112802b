"""Two toy simulators behind the protocol that CALVIN and SimplerEnv are behind: a point that has to get somewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.eval.benchmarks.play import Episode, Seen

PLACES = {"right": (0, 1.0), "left": (0, -1.0), "up": (1, 1.0), "down": (1, -1.0), "far right": (0, 3.0)}


class Points:
    """A point that moves as it is told. Its picture is as bright as it is far right."""

    def __init__(self, manifest: Any) -> None:
        self._camera, self._states = manifest.cameras[0], len(manifest.state)
        self._at, self.steps = np.zeros(4), 0

    def _seen(self) -> Seen:
        bright = int(np.clip(128 + 20 * self._at[0], 0, 255))
        shape = (self._camera.height, self._camera.width, 3)
        state = np.zeros(self._states, np.float32)
        state[: min(4, self._states)] = self._at[: self._states]
        return Seen({self._camera.name: np.full(shape, bright, np.uint8)}, state)

    def _move(self, action: np.ndarray) -> None:
        self._at[: len(action)] += action[:4]
        self.steps += 1


class Chains(Points):
    """Subtasks: get that far from where they were told."""

    def chains(self, count: int) -> list[tuple[int, tuple[str, ...]]]:
        return [(i, ("right", "up", "left", "down", "right")) for i in range(count)]

    def begin(self, start: int) -> Seen:
        self._at = np.full(4, float(start))
        return self._seen()

    def sentence(self, subtask: str) -> str:
        self._since = self._at.copy()
        return subtask

    def step(self, action: np.ndarray) -> Seen:
        self._move(action)
        return self._seen()

    def reached(self, subtask: str) -> bool:
        axis, far = PLACES[subtask]
        return bool((self._at - self._since)[axis] * np.sign(far) >= abs(far))


class Reach(Points):
    """One sentence, thirty steps; two variants, of which one starts further away."""

    def episodes(self, count: int) -> list[Episode]:
        return [Episode("reach", "variants", v, seed) for v in ("near", "far right") for seed in range(count)]

    def begin(self, episode: Episode) -> Seen:
        self._at, self._left = np.zeros(4), 30
        self._wanted = PLACES["far right" if episode.variant != "near" else "right"][1]
        return self._seen()

    def sentence(self) -> str:
        return "right"

    def step(self, action: np.ndarray) -> tuple[Seen, bool]:
        self._move(action)
        self._left -= 1
        return self._seen(), self.succeeded() or self._left == 0

    def succeeded(self) -> bool:
        return bool(self._at[0] >= self._wanted)


def chains(manifest: Any) -> Chains:
    return Chains(manifest)


def reach(manifest: Any) -> Reach:
    return Reach(manifest)


def nothing(manifest: Any) -> object:
    return object()


def broken(manifest: Any) -> object:
    raise ValueError("the scene lacks a table")


class Lost(Reach):
    """Does not know its scene."""

    def begin(self, episode: Episode) -> Seen:
        raise KeyError(f"no scene of {episode.task}")


class Idle(Reach):
    """Has nothing to play."""

    def episodes(self, count: int) -> list[Episode]:
        return []


def lost(manifest: Any) -> Lost:
    return Lost(manifest)


def idle(manifest: Any) -> Idle:
    return Idle(manifest)
