"""Records demonstrations of Meta-World's scripted experts, disturbed on purpose so that recovery is shown too.

    python -m examples.metaworld.demos -o out/data --episodes 130 --half-way 120

Each (task, scene) group is one shard `NAME.npz`, written whole or not at all; a run that was stopped goes on with the
missing ones, and is refused where other options are asked for (`folder.py`). Same seed, same bytes. Arrays of a shard,
N ticks in E episodes, frames every `FRAME_EVERY` ticks:

    image     uint8   (F, 96, 96, 3)   RGB
    frame     int32   (N,)             row of the newest frame at that tick
    state     float32 (N, 4)           hand x, y, z [m], gripper opening [0..1]
    executed  float32 (N, 4)           action that was commanded (with noise), dx dy dz [1 = 0.01 m], gripper [-1..1]
    expert    float32 (N, 4)           action the expert wanted there (the label)
    episode   int32   (N,)             episode number

Other recorders (`examples.metaworld.mt.demos`) use the same functions with another `Recording`.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from edgevla.sim.metaworld import ACTION_SCALE_M, PERIOD_S, SETPOINT_HIGH, SETPOINT_LOW, TASKS, MetaworldPlant
from edgevla.sim.view import CORNER, View
from examples.arguments import count, positive
from examples.ended import ended
from examples.metaworld.folder import claim, finish
from examples.metaworld.instructions import SHORT, WORDINGS, vocabulary
from export.spawned import spawned

FRAME_EVERY = 2  # ticks
MAX_TICKS = 220
TICKS_AFTER_SUCCESS = 16  # labels for chunks asked for near the end
HALF_WAY_DONE_M = 0.07  # of mechanism travel
NOISE_SIGMAS = (0.0, 0.2, 0.4)  # of the correlated disturbance, in action units
NOISE_MEMORY = 0.8  # AR(1) coefficient per tick
PUSHED_SHARE = 0.5  # of the episodes
PUSH_PROBABILITY = 0.02  # per tick, of a push of 6-14 ticks at full speed in a random direction
FAILURES = 8  # an expert may leave this many episodes unfinished for each one wanted

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]
Numbers = npt.NDArray[np.float64]
Recorded = tuple[str, int, int]  # name of a shard, its ticks, unfinished expert episodes


class Disturbance:
    """Correlated noise plus rare hard pushes, added to the expert's displacement."""

    def __init__(
        self, rng: np.random.Generator, sigmas: Sequence[float] = NOISE_SIGMAS, pushed_share: float = PUSHED_SHARE
    ) -> None:
        self._rng = rng
        self._sigma = rng.choice(sigmas)
        self._value: Numbers = np.zeros(3)
        self._push: Numbers = np.zeros(3)
        self._push_left = 0
        self._pushes = rng.random() < pushed_share

    def next(self) -> Numbers:
        rng = self._rng
        fresh = rng.normal(size=3) * self._sigma * np.sqrt(1 - NOISE_MEMORY**2)
        self._value = NOISE_MEMORY * self._value + fresh
        if self._pushes and self._push_left == 0 and rng.random() < PUSH_PROBABILITY:
            self._push, self._push_left = rng.uniform(-1.5, 1.5, size=3), int(rng.integers(6, 15))
        push = self._push if self._push_left else np.zeros(3)
        self._push_left = max(0, self._push_left - 1)
        return self._value + push

    def disturbed(self, wanted: Numbers) -> Numbers:
        """The action (4,) that is taken where the expert wants `wanted`."""
        return np.append(np.clip(wanted[:3] + self.next(), -1, 1), wanted[3])


class Calm:
    """No disturbance: nobody sees how to recover."""

    def __init__(self, rng: np.random.Generator) -> None:
        pass

    def disturbed(self, wanted: Numbers) -> Numbers:
        return wanted


class Disturber(Protocol):
    """What happens to an expert's actions on the way to the arm."""

    def disturbed(self, wanted: Numbers) -> Numbers: ...


@dataclass(frozen=True)
class Recording:
    """How episodes are recorded. places: also `MetaworldPlant.places()` at every tick, float32 (N, 9). disturber: made
    anew for each episode from its own generator."""

    view: View = CORNER
    frame_every: int = FRAME_EVERY  # ticks
    max_ticks: int = MAX_TICKS
    places: bool = False
    disturber: Callable[[np.random.Generator], Disturber] = Disturbance


REFERENCE = Recording()


@dataclass(frozen=True)
class Group:
    """One shard: a task in its own scene or in the half-way scene."""

    task: str
    half_way: bool
    episodes: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task}{'-half-way' if self.half_way else ''}"


def scripted_expert(task: str) -> Any:
    """Meta-World's own scripted policy for a task."""
    from metaworld import policies

    return policies.ENV_POLICY_MAP[task]()


def _scene_task(task: str, half_way: bool) -> str:
    """Both instructions of a mechanism start from the same half-way scenes: those of the opening task."""
    return task.replace("-close-", "-open-") if half_way else task


def _done(plant: MetaworldPlant, group: Group) -> bool:
    if not group.half_way:
        return plant.success
    return (plant.opened_by() if "open" in group.task else -plant.opened_by()) >= HALF_WAY_DONE_M


def record_episode(
    group: Group, seed: int, reuse: MetaworldPlant | None, how: Recording = REFERENCE
) -> tuple[MetaworldPlant, Arrays | None]:
    """One disturbed episode; None if the expert did not finish in time."""
    plant = MetaworldPlant(_scene_task(group.task, group.half_way), seed, group.half_way, reuse, how.view)
    expert, disturber = scripted_expert(group.task), how.disturber(np.random.default_rng(seed))
    setpoint, rows, images, left = plant.setpoint0.copy(), [], [], None
    places = []
    for tick in range(how.max_ticks):
        if tick % how.frame_every == 0:
            images.append(plant.render())
        if how.places:
            places.append(plant.places())
        wanted = np.clip(expert.get_action(plant.scripted_observation()), -1, 1)
        action = disturber.disturbed(wanted)
        rows.append((plant.position(), action, wanted, len(images) - 1))
        setpoint = commanded(setpoint, action)
        plant.step(setpoint)
        if left is None and _done(plant, group):
            left = TICKS_AFTER_SUCCESS
        elif left is not None:
            left -= 1
            if left == 0:
                break
    if left is None:
        return plant, None
    state, executed, wanted_all, frame = zip(*rows, strict=True)
    return plant, {
        "image": np.stack(images),
        "frame": np.array(frame, np.int32),
        "state": np.stack(state).astype(np.float32),
        "executed": np.stack(executed).astype(np.float32),
        "expert": np.stack(wanted_all).astype(np.float32),
        **({"places": np.stack(places)} if how.places else {}),
    }


def commanded(setpoint: npt.NDArray[Any], action: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
    """The set-point (4,) after `setpoint` when the action dx, dy, dz [1 = 0.01 m], gripper is taken."""
    following = setpoint.copy()
    following[:3] += ACTION_SCALE_M * action[:3]
    following[3] = action[3]
    return np.clip(following, SETPOINT_LOW, SETPOINT_HIGH)


def record_group(group: Group, out: Path, how: Recording = REFERENCE) -> Recorded:
    """Records one shard; returns its name, ticks and failed expert episodes.

    Raises:
        BadInput: the expert hardly ever finishes this task.
    """
    warnings.filterwarnings("ignore")
    parts: dict[str, list[npt.NDArray[Any]]] = {
        k: [] for k in ("image", "frame", "state", "executed", "expert", "episode")
    }
    plant, frames, failed, seed = None, 0, 0, group.seed
    while len(parts["episode"]) < group.episodes:
        plant, episode = record_episode(group, seed, plant, how)
        seed += 1
        if episode is None:
            failed += 1
            _require_some_finished(group, failed)
            continue
        episode["frame"] += frames
        frames += len(episode["image"])
        episode["episode"] = np.full(len(episode["state"]), len(parts["episode"]), np.int32)
        for key, value in episode.items():
            parts.setdefault(key, []).append(value)
    arrays = {key: np.concatenate(value) for key, value in parts.items()}
    save_whole(out / f"{group.name}.npz", arrays)
    return group.name, len(arrays["state"]), failed


def _require_some_finished(group: Group, failed: int) -> None:
    if failed > FAILURES * group.episodes:
        expected, todo = f"{group.episodes} finished episodes", "leave this task out: its expert cannot show it"
        raise BadInput(explain(f"scripted expert of {group.name}", expected, f"{failed} unfinished ones", todo))


def save_whole(path: Path, arrays: Arrays) -> None:
    """Writes a shard, whole or not at all. Raises BadInput: it cannot be written."""
    temporary = path.with_name(f".{path.stem}.part.npz")
    try:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        todo = "make room; the same command goes on from here"
        raise BadInput(explain(f"{path}", "a shard to write", error, todo)) from None


def plan(episodes: int, half_way: int, seed: int) -> list[Group]:
    """The shards to record; scene seeds of different shards never overlap."""
    groups = [Group(task, False, episodes, seed + 100_000 * i) for i, task in enumerate(TASKS)]
    pairs = [task for task, spec in TASKS.items() if spec.mechanism]
    groups += [Group(task, True, half_way, seed + 100_000 * (10 + i)) for i, task in enumerate(pairs) if half_way]
    return groups


def record_missing(groups: Sequence[Group], out: Path, workers: int, how: Recording = REFERENCE) -> None:
    """Records the shards that are not in the claimed folder yet, and says how long the rest will take."""
    missing = [group for group in groups if not (out / f"{group.name}.npz").exists()]
    jobs = [(record_group, (group, out, how)) for group in missing]

    def told(recorded: Recorded) -> str:
        name, ticks, failed = recorded
        return f"{name:28s} {ticks:6d} ticks, {failed} unfinished expert episodes dropped"

    work_through(jobs, workers, told)


def work_through(
    jobs: Sequence[tuple[Callable[..., T], tuple[Any, ...]]], workers: int, told: Callable[[T], str]
) -> None:
    """Does the jobs (function, arguments) on fresh processes: one line for each that is done, with the time left. What
    stops it, Ctrl-C or a job that fails, ends the others in the middle of their work."""
    started = time.monotonic()
    with spawned(workers) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in jobs]
        for number, future in enumerate(as_completed(futures), 1):
            line = told(future.result())
            left = (time.monotonic() - started) / number * (len(jobs) - number)
            print(f"  {line}; about {left:.0f} s left", flush=True)


def record(out: Path, episodes: int, half_way: int, seed: int, workers: int) -> None:
    """Records all missing shards and writes `dataset.json` last.

    Raises:
        BadInput: the folder has shards of other options or cannot be written to, or an expert hardly ever finishes.
    """
    groups = plan(episodes, half_way, seed)
    content = content_of(groups, seed, FRAME_EVERY)
    claim(out, content)
    record_missing(groups, out, workers)
    wordings = {task: {"train": w.train, "held_out": w.held_out} for task, w in WORDINGS.items()}
    finish(out, {
        **content, "instructions": wordings, "known_instructions": SHORT, "vocabulary": vocabulary()
    })  # fmt: skip


def content_of(groups: Sequence[Group], seed: int, frame_every: int) -> dict[str, Any]:
    """What a dataset.json says of its shards."""
    return {
        "schema": "edgevla.demos/1",
        "seed": seed,
        "period_s": PERIOD_S,
        "frame_every": frame_every,
        "shards": [
            {"file": f"{g.name}.npz", "task": g.task, "half_way": g.half_way, "episodes": g.episodes} for g in groups
        ],
    }


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--episodes", type=positive, default=130, help="per task (default %(default)s)")
    parser.add_argument(
        "--half-way", type=count, default=120, help="per drawer and window instruction (default %(default)s)"
    )
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--workers", type=positive, default=2)
    return ended(lambda a: record(a.out, a.episodes, a.half_way, a.seed, a.workers), parser, given)


if __name__ == "__main__":
    raise SystemExit(main())
