"""A bundle in somebody else's simulator: chains of subtasks (CALVIN), or tasks one by one (SimplerEnv).

What is simulated stands still while the policy thinks, as in the published evaluations; the fixed latency of a robot is
tested elsewhere (`edgevla eval --replay`, examples/metaworld).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Manifest
from edgevla.errors import BadInput, explain
from export.eval.benchmarks.chains import STEPS, Chain

Float32 = npt.NDArray[np.float32]
Uint8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """One observation: pictures (h, w, 3) RGB by camera of the bundle, and the state (S,) in its units."""

    images: Mapping[str, Uint8]
    state: Float32


class Policy(Protocol):
    """`edgevla.policy.engine.PolicyEngine`."""

    def set_instruction(self, text: str) -> None: ...
    def forget(self) -> None: ...
    def observe(self, images: Any, state: Float32) -> None: ...
    def infer(self, images: Any, state: Float32, prefix: Float32) -> Float32: ...


class Chained(Protocol):
    """A simulator of chains."""

    def chains(self, count: int) -> Sequence[tuple[Any, tuple[str, ...]]]:
        """So many starts, each with its subtasks."""

    def begin(self, start: Any) -> Seen:
        """The scene of a start."""

    def sentence(self, subtask: str) -> str:
        """How it is told. What counts as done is counted from here on."""

    def step(self, action: Float32) -> Seen:
        """One action (A,), in the units of the bundle's channels."""

    def reached(self, subtask: str) -> bool:
        """Whether it is done since it was told."""


@dataclass(frozen=True)
class Episode:
    """One task in one variant of one setting, such as visual matching."""

    task: str
    setting: str
    variant: str
    seed: int


class Tasks(Protocol):
    """A simulator of tasks."""

    def episodes(self, count: int) -> Sequence[Episode]:
        """So many of each variant."""

    def begin(self, episode: Episode) -> Seen: ...

    def sentence(self) -> str:
        """What is to be done now; a long task tells another when the first part is done."""

    def step(self, action: Float32) -> tuple[Seen, bool]:
        """One action (A,); whether the episode has ended."""

    def succeeded(self) -> bool: ...


class Actor:
    """A policy that is asked every `replan` steps and acts on the rows of its chunk in between."""

    def __init__(self, policy: Policy, manifest: Manifest, replan: int) -> None:
        if not 1 <= replan <= manifest.timing.horizon:
            expected = f"1 to {manifest.timing.horizon} steps, the chunk of this policy"
            raise BadInput(explain("--replan", expected, replan, "choose fewer"))
        spacing = manifest.timing.memory_ticks
        if spacing and replan != spacing:
            todo = f"pass --replan {spacing}"
            raise BadInput(explain("--replan", f"{spacing}, as far apart as its memory was trained", replan, todo))
        self._policy, self._replan = policy, replan
        self._scale = np.array([channel.scale for channel in manifest.channels], np.float32)
        self._offset = np.array([channel.offset for channel in manifest.channels], np.float32)
        self._rows: list[Float32] = []
        self._seen: deque[Seen] = deque(maxlen=manifest.observations)

    def tell(self, sentence: str) -> None:
        """A new instruction: what was planned and remembered for the last one is gone."""
        self._policy.set_instruction(sentence)
        self._rows = []
        self._seen.clear()

    def act(self, seen: Seen) -> Float32:
        """The next action (A,), in the units of the channels."""
        self._seen.append(seen)
        if not self._rows:
            if self._seen.maxlen != 1:  # the steps before, as the robot shows them
                self._policy.forget()
                for earlier in list(self._seen)[:-1]:
                    self._policy.observe(earlier.images, earlier.state)
            nothing = np.zeros((0, len(self._scale)), np.float32)
            chunk = self._policy.infer(seen.images, seen.state, nothing)
            self._rows = list(chunk[: self._replan] * self._scale + self._offset)
        return self._rows.pop(0)


def play_chain(actor: Actor, world: Chained, start: Any, subtasks: tuple[str, ...], steps: int = STEPS) -> Chain:
    """Subtask after subtask, each told when the one before is done, until one is not done within `steps`."""
    seen = world.begin(start)
    for done, subtask in enumerate(subtasks):
        actor.tell(world.sentence(subtask))
        for _ in range(steps):
            seen = world.step(actor.act(seen))
            if world.reached(subtask):
                break
        else:
            return Chain(subtasks, done)
    return Chain(subtasks, len(subtasks))


def play_task(actor: Actor, world: Tasks, episode: Episode) -> bool:
    """One episode to its end."""
    seen, ended = world.begin(episode), False
    told: str | None = None
    while not ended:
        sentence = world.sentence()
        if sentence != told:
            actor.tell(sentence)
            told = sentence
        seen, ended = world.step(actor.act(seen))
    return world.succeeded()
