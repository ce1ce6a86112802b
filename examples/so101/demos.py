"""Records demonstrations of the SO-101 in its simulator as a LeRobotDataset v3.0: pre-training data of another robot.

    python -m examples.so101.demos -o out/so101 --episodes 40

Per tick of 20 ms: joint positions (rad), the expert's joint targets (rad), the newest picture, the instruction.
Episodes in which the expert did not succeed are left out. Each task is one shard, written whole or not at all: a run
that was stopped goes on with the missing ones. Same seed, same shards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from examples.arguments import count, positive
from examples.ended import ended
from examples.so101.expert import targets
from examples.so101.scene import IMAGE_SIZE, JOINTS, PERIOD_S, TASKS, So101, Task
from export.data.interface import Camera
from export.data.video import Encoding
from export.data.writer import Episode, Layout, LeRobotWriter
from export.spawned import spawned

FRAME_EVERY = 4  # ticks: the meshes are many, a picture takes 60 ms without a GPU
MAX_FAILED = 10  # unfinished episodes for each wanted one, before a task is given up
CAMERA = Camera("front", IMAGE_SIZE, IMAGE_SIZE)
LAYOUT = Layout(
    fps=round(1 / PERIOD_S), state_names=JOINTS, action_names=JOINTS, cameras=(CAMERA,),
    state_units=("rad",) * len(JOINTS), action_units=("rad",) * len(JOINTS), robot_type="so101",
    encoding=Encoding("libsvtav1", 30),
)  # fmt: skip
Arrays = dict[str, npt.NDArray[Any]]


def record_episode(scene: So101, seed: int) -> Arrays | None:
    """image uint8 (F, 96, 96, 3), frame int32 (T,), state and action float32 (T, 6) rad; None: without success."""
    scene.reset(seed)
    images: list[npt.NDArray[np.uint8]] = []
    rows = []
    for tick, target in enumerate(targets(scene, np.random.default_rng(seed))):
        if tick % FRAME_EVERY == 0:
            images.append(scene.render())
        rows.append((scene.position(), target, len(images) - 1))
        scene.step(target)
    if not scene.success:
        return None
    state, action, frame = zip(*rows, strict=True)
    return {
        "image": np.stack(images), "frame": np.array(frame, np.int32), "state": np.stack(state).astype(np.float32),
        "action": np.stack(action).astype(np.float32),
    }  # fmt: skip


def record_task(task: Task, episodes: int, seed: int, out: Path) -> tuple[str, int, int]:
    """Records one shard; name, ticks and episodes without success. Raises BadInput: the expert hardly ever succeeds."""
    scene, found, failed = So101(task), [], 0
    while len(found) < episodes:
        episode = record_episode(scene, seed + len(found) + failed)
        if episode is not None:
            found.append(episode)
            continue
        failed += 1
        if failed > MAX_FAILED * episodes:
            raise BadInput(explain(task.name, f"{episodes} episodes with success", len(found), "report this"))
    arrays = {f"{key}-{i}": value for i, episode in enumerate(found) for key, value in episode.items()}
    part = out / f".{task.name}.part.npz"
    np.savez(part, **arrays)
    os.replace(part, out / f"{task.name}.npz")
    return task.name, sum(len(episode["state"]) for episode in found), failed


def record(out: Path, episodes: int, seed: int, workers: int) -> None:
    """Shards beside `out`, then the data set, whole or not at all. Raises BadInput: `out` is there."""
    if out.exists():
        raise BadInput(explain(f"{out}", "a folder that is not there yet", "it is", "choose another"))
    shards = out.with_name(f"{out.name}.shards")
    shards.mkdir(parents=True, exist_ok=True)
    _declare(shards / "asked.json", {"episodes": episodes, "seed": seed})
    missing = [(i, task) for i, task in enumerate(TASKS) if not (shards / f"{task.name}.npz").exists()]
    started = time.monotonic()
    with spawned(workers) as pool:
        jobs = [pool.submit(record_task, task, episodes, seed + 100_000 * i, shards) for i, task in missing]
        for number, job in enumerate(as_completed(jobs), 1):
            name, ticks, failed = job.result()
            left_s = (time.monotonic() - started) / number * (len(missing) - number)
            print(
                f"  {name:20s} {ticks:6d} ticks, {failed} without success left out; about {left_s:.0f} s left",
                flush=True,
            )
    with LeRobotWriter(out, LAYOUT) as writer:
        for episode in _episodes(shards):
            writer.add(episode)
    shutil.rmtree(shards)
    print(f"{out}: {episodes * len(TASKS)} episodes, {len(TASKS)} instructions, {LAYOUT.fps} Hz")


def _declare(path: Path, asked: dict[str, int]) -> None:
    """What the shards beside it are of. Raises BadInput: of other settings."""
    if path.exists() and json.loads(path.read_text()) != asked:
        raise BadInput(explain(f"{path.parent}", f"shards of {asked}", path.read_text().strip(), "remove that folder"))
    path.write_text(json.dumps(asked) + "\n")


def _episodes(shards: Path) -> Iterator[Episode]:
    for task in TASKS:
        with np.load(shards / f"{task.name}.npz") as arrays:
            for i in range(sum(name.startswith("state-") for name in arrays.files)):
                images = arrays[f"image-{i}"][arrays[f"frame-{i}"]]
                state, action = arrays[f"state-{i}"], arrays[f"action-{i}"]
                yield Episode(state, action, {CAMERA.name: images}, task.instruction)


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--episodes", type=positive, default=40, help="per task (default %(default)s)")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--workers", type=positive, default=2)
    return ended(lambda a: record(a.out, a.episodes, a.seed, a.workers), parser, given)


if __name__ == "__main__":
    raise SystemExit(main())
