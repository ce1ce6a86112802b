"""Records demonstrations of Meta-World's scripted experts, disturbed on purpose so that recovery is shown too.

    python -m examples.metaworld.demos -o out/data --episodes 130 --half-way 120

Each (task, scene) group is one shard `NAME.npz`, written whole or not at all; a run that was stopped goes on with the
missing ones. Same seed, same bytes. Arrays of a shard, N ticks in E episodes, frames every `FRAME_EVERY` ticks:

    image     uint8   (F, 96, 96, 3)   RGB
    frame     int32   (N,)             row of the newest frame at that tick
    state     float32 (N, 4)           hand x, y, z [m], gripper opening [0..1]
    executed  float32 (N, 4)           action that was commanded (with noise), dx dy dz [1 = 0.01 m], gripper [-1..1]
    expert    float32 (N, 4)           action the expert wanted there (the label)
    episode   int32   (N,)             episode number
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.sim.metaworld import ACTION_SCALE_M, SETPOINT_HIGH, SETPOINT_LOW, TASKS, MetaworldPlant
from examples.metaworld.instructions import SHORT, WORDINGS, vocabulary

FRAME_EVERY = 2  # ticks
MAX_TICKS = 220
TICKS_AFTER_SUCCESS = 16  # labels for chunks asked for near the end
HALF_WAY_DONE_M = 0.07  # of mechanism travel
NOISE_SIGMAS = (0.0, 0.2, 0.4)  # of the correlated disturbance, in action units
NOISE_MEMORY = 0.8  # AR(1) coefficient per tick
PUSH_PROBABILITY = 0.02  # per tick, of a push of 6-14 ticks at full speed in a random direction


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

    stem = "".join(part.capitalize() for part in task.removesuffix("-v3").split("-"))
    return getattr(policies, f"Sawyer{stem}V3Policy")()


class Disturbance:
    """Correlated noise plus rare hard pushes, added to the expert's displacement."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._sigma = rng.choice(NOISE_SIGMAS)
        self._value: npt.NDArray[np.float64] = np.zeros(3)
        self._push: npt.NDArray[np.float64] = np.zeros(3)
        self._push_left = 0
        self._pushes = rng.random() < 0.5

    def next(self) -> npt.NDArray[np.float64]:
        rng = self._rng
        fresh = rng.normal(size=3) * self._sigma * np.sqrt(1 - NOISE_MEMORY**2)
        self._value = NOISE_MEMORY * self._value + fresh
        if self._pushes and self._push_left == 0 and rng.random() < PUSH_PROBABILITY:
            self._push, self._push_left = rng.uniform(-1.5, 1.5, size=3), int(rng.integers(6, 15))
        push = self._push if self._push_left else np.zeros(3)
        self._push_left = max(0, self._push_left - 1)
        return self._value + push


def _scene_task(task: str, half_way: bool) -> str:
    """Both instructions of a mechanism start from the same half-way scenes: those of the opening task."""
    return task.replace("-close-", "-open-") if half_way else task


def _done(plant: MetaworldPlant, group: Group) -> bool:
    if not group.half_way:
        return plant.success
    return (plant.opened_by() if "open" in group.task else -plant.opened_by()) >= HALF_WAY_DONE_M


def record_episode(
    group: Group, seed: int, reuse: MetaworldPlant | None
) -> tuple[MetaworldPlant, dict[str, npt.NDArray[Any]] | None]:
    """One disturbed episode; None if the expert did not finish in time."""
    plant = MetaworldPlant(_scene_task(group.task, group.half_way), seed, group.half_way, reuse)
    expert, noise = scripted_expert(group.task), Disturbance(np.random.default_rng(seed))
    setpoint, rows, images, left = plant.setpoint0.copy(), [], [], None
    for tick in range(MAX_TICKS):
        if tick % FRAME_EVERY == 0:
            images.append(plant.render())
        wanted = np.clip(expert.get_action(plant.scripted_observation()), -1, 1)
        action = wanted.copy()
        action[:3] = np.clip(action[:3] + noise.next(), -1, 1)
        rows.append((plant.position(), action, wanted, len(images) - 1))
        setpoint[:3] += ACTION_SCALE_M * action[:3]
        setpoint[3] = action[3]
        setpoint = np.clip(setpoint, SETPOINT_LOW, SETPOINT_HIGH)
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
    }


def record_group(group: Group, out: Path) -> tuple[str, int, int]:
    """Records one shard; returns its name, ticks and failed expert episodes."""
    warnings.filterwarnings("ignore")
    parts: dict[str, list[npt.NDArray[Any]]] = {
        k: [] for k in ("image", "frame", "state", "executed", "expert", "episode")
    }
    plant, frames, failed, seed = None, 0, 0, group.seed
    while len(parts["episode"]) < group.episodes:
        plant, episode = record_episode(group, seed, plant)
        seed += 1
        if episode is None:
            failed += 1
            continue
        episode["frame"] += frames
        frames += len(episode["image"])
        episode["episode"] = np.full(len(episode["state"]), len(parts["episode"]), np.int32)
        for key, value in episode.items():
            parts[key].append(value)
    arrays = {key: np.concatenate(value) for key, value in parts.items()}
    temporary = out / f".{group.name}.part.npz"
    np.savez(temporary, **arrays)
    os.replace(temporary, out / f"{group.name}.npz")
    return group.name, len(arrays["state"]), failed


def plan(episodes: int, half_way: int, seed: int) -> list[Group]:
    """The shards to record; scene seeds of different shards never overlap."""
    groups = [Group(task, False, episodes, seed + 100_000 * i) for i, task in enumerate(TASKS)]
    pairs = [task for task, spec in TASKS.items() if spec.mechanism]
    groups += [Group(task, True, half_way, seed + 100_000 * (10 + i)) for i, task in enumerate(pairs) if half_way]
    return groups


def record(out: Path, episodes: int, half_way: int, seed: int, workers: int) -> None:
    """Records all missing shards and writes `dataset.json` last."""
    out.mkdir(parents=True, exist_ok=True)
    groups = plan(episodes, half_way, seed)
    missing = [group for group in groups if not (out / f"{group.name}.npz").exists()]
    started = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(record_group, group, out) for group in missing]
        for number, job in enumerate(as_completed(jobs), 1):
            name, ticks, failed = job.result()
            elapsed = time.monotonic() - started
            left = elapsed / number * (len(missing) - number)
            print(
                f"  {name:28s} {ticks:6d} ticks, {failed} unfinished expert episodes dropped; about {left:.0f} s left",
                flush=True,
            )
    meta = {
        "schema": "edgevla.demos/1",
        "seed": seed,
        "period_s": 0.0125,
        "frame_every": FRAME_EVERY,
        "shards": [
            {"file": f"{g.name}.npz", "task": g.task, "half_way": g.half_way, "episodes": g.episodes} for g in groups
        ],
        "instructions": {task: {"train": w.train, "held_out": w.held_out} for task, w in WORDINGS.items()},
        "known_instructions": SHORT,
        "vocabulary": vocabulary(),
    }
    (out / "dataset.json").write_text(json.dumps(meta, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=130, help="per task (default %(default)s)")
    parser.add_argument(
        "--half-way", type=int, default=120, help="per drawer and window instruction (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    record(arguments.out, arguments.episodes, arguments.half_way, arguments.seed, arguments.workers)


if __name__ == "__main__":
    main()
