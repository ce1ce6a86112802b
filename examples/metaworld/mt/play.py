"""Takes pictures of a hand at play, without actions: a lesson of where things are.

    python -m examples.metaworld.mt.play -o out/mt10/stills
    python -m examples.metaworld.mt.play -o out/mt50/stills --set mt50 --workers 16

In each scene the scripted expert is disturbed (hard, or not at all: then it holds things); now and then the hand comes
shut and holds nothing, or is sent somewhere else, with what it holds or letting it go. Pictures are taken at random
moments. A goal that floats is somewhere else in each picture, and there are five times as many of them: only its size
tells how far it is. Scenes are none of the demonstrations' and none that a policy is judged on. One shard `NAME.npz`
for each task, written whole or not at all; a run that was stopped goes on with the missing ones, and is refused where
other options are asked for (`folder.py`). Same seed, same bytes. Arrays of a shard, F pictures:

    image     uint8   (F, 128, 128, 3) RGB
    state     float32 (F, 4)           hand x, y, z [m], gripper opening [0..1]
    places    float32 (F, 9)           x, y, z [m] of object 1, object 2 and the goal; NaN where a task has none

`export.data.stills.Stills` reads them.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import Usage, explain
from edgevla.sim.metaworld import ACTION_SCALE_M, FLOATING, MetaworldPlant
from edgevla.sim.names import ALL_TASKS
from edgevla.sim.view import TABLE
from examples.arguments import count, positive
from examples.ended import ended
from examples.metaworld.demos import Arrays, Disturbance, commanded, save_whole, scripted_expert, work_through
from examples.metaworld.folder import claim, finish
from examples.metaworld.mt.demos import CAMERA
from examples.metaworld.mt.tasks import SETS, Which, tasks, vocabulary, words

SEEDS = 10_000  # of a task: its scenes never meet those of another
MOST_SCENES = SEEDS
NOISE_SIGMAS = (0.0, 0.3, 0.7)  # action units: also more than the demonstrations have
PUSHED_SHARE = 0.5  # of the scenes
LONGEST = (80, 320)  # ticks, between which a scene's length is drawn
ASIDE_SHARE = 0.3  # of the stretches in which the hand goes somewhere else
STRETCH = (10, 80)  # ticks
LET_GO_SHARE, SHUT_SHARE = 0.3, 0.2  # of the stretches aside, with the gripper open or shut; else it stays as it was
SHUT_NEAR_SHARE = 0.15  # of the stretches with the expert, shut all the same: it comes, and holds nothing
MORE = 5  # times as many pictures where the goal floats, each with the goal elsewhere: 300 were learned by heart
ROAM_LOW_M, ROAM_HIGH_M = (-0.35, 0.45, 0.06), (0.35, 0.9, 0.4)  # where it goes: what the camera sees

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shard:
    """The pictures of one task: `scenes` scenes from `seed` on, `pictures` of each."""

    task: str
    scenes: int
    pictures: int
    seed: int


class Playing:
    """What a hand at play does: follows the expert for a stretch, or goes somewhere else."""

    def __init__(self, task: str, rng: np.random.Generator) -> None:
        self._expert, self._rng = scripted_expert(task), rng
        self._noise = Disturbance(rng, NOISE_SIGMAS, PUSHED_SHARE)
        self._aside_m: Numbers | None = None  # where the hand is sent; None: the expert leads
        self._left, self._gripper, self._shut = 0, -1.0, False

    def action(self, plant: MetaworldPlant) -> Numbers:
        """dx, dy, dz [1 = 0.01 m], gripper [-1..1]."""
        if self._left == 0:
            self._choose()
        self._left -= 1
        if self._aside_m is None:
            wanted = np.clip(self._expert.get_action(plant.scripted_observation()), -1, 1)
            wanted[3] = 1.0 if self._shut else wanted[3]
            self._gripper = float(wanted[3])
        else:
            wanted = np.append((self._aside_m - plant.position()[:3]) / ACTION_SCALE_M, self._gripper)
        wanted[:3] = np.clip(np.clip(wanted[:3], -1, 1) + self._noise.next(), -1, 1)
        return np.asarray(wanted, np.float64)

    def _choose(self) -> None:
        rng = self._rng
        self._left, self._aside_m = int(rng.integers(*STRETCH)), None
        self._shut = rng.random() < SHUT_NEAR_SHARE
        if rng.random() < ASIDE_SHARE:
            self._aside_m = rng.uniform(ROAM_LOW_M, ROAM_HIGH_M)
            drawn = rng.random()
            if drawn < LET_GO_SHARE + SHUT_SHARE:
                self._gripper = -1.0 if drawn < LET_GO_SHARE else 1.0


def play_scene(shard: Shard, seed: int, reuse: MetaworldPlant | None) -> tuple[MetaworldPlant, list[tuple[Any, ...]]]:
    """Picture, state and places at random moments of one scene."""
    plant = MetaworldPlant(shard.task, seed, reuse=reuse, view=TABLE)
    rng = np.random.default_rng(seed)
    length = max(int(rng.integers(*LONGEST)), shard.pictures)
    moments = set(rng.choice(length, shard.pictures, replace=False).tolist())
    playing, setpoint, taken = Playing(shard.task, rng), plant.setpoint0.copy(), []
    for tick in range(max(moments) + 1):
        if tick in moments:
            if shard.task in FLOATING:
                plant.move_goal(rng)
            taken.append((plant.render(), plant.position(), plant.places()))
        setpoint = commanded(setpoint, playing.action(plant))
        plant.step(setpoint)
    return plant, taken


def take(shard: Shard, out: Path) -> tuple[str, int]:
    """Takes the pictures of one shard; returns its task and how many."""
    warnings.filterwarnings("ignore")
    plant, rows = None, []
    for seed in range(shard.seed, shard.seed + shard.scenes):
        plant, taken = play_scene(shard, seed, plant)
        rows += taken
    arrays: Arrays = {
        key: np.stack(column) for key, column in zip(("image", "state", "places"), zip(*rows, strict=True), strict=True)
    }
    save_whole(out / f"{shard.task}.npz", arrays)
    return shard.task, len(rows)


def plan(which: Which, scenes: int, pictures: int, seed: int) -> list[Shard]:
    """The shards to take; a task has the same scenes in MT10 and in MT50."""
    return [
        Shard(name, scenes, pictures * (MORE if name in FLOATING else 1), seed + SEEDS * ALL_TASKS.index(name))
        for name in (task.name for task in tasks(which))
    ]


def take_all(out: Path, which: Which, scenes: int, pictures: int, seed: int, workers: int) -> None:
    """Takes all missing shards and writes `dataset.json` last.

    Raises:
        Usage: more scenes than a task has of its own.
        BadInput: the folder has shards of other options, or cannot be written to.
    """
    if scenes > MOST_SCENES:
        todo = "ask for more pictures of each"
        raise Usage(explain("--scenes", f"{MOST_SCENES} at most, none of which another task has", scenes, todo))
    shards = plan(which, scenes, pictures, seed)
    content = {
        "schema": "edgevla.stills/1",
        "set": which,
        "seed": seed,
        "camera": CAMERA,
        "scenes": scenes,
        "pictures": pictures,
        "shards": [{"file": f"{shard.task}.npz", "task": shard.task} for shard in shards],
    }
    claim(out, content)
    missing = [shard for shard in shards if not (out / f"{shard.task}.npz").exists()]
    work_through([(take, (shard, out)) for shard in missing], workers, lambda done: f"{done[0]:28s} {done[1]} pictures")
    finish(out, {**content, "instructions": words(which), "vocabulary": vocabulary(which)})


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, default="mt10", help="which tasks (default %(default)s)")
    parser.add_argument("--scenes", type=positive, default=400, help="per task (default %(default)s)")
    parser.add_argument("--pictures", type=positive, default=6, help="per scene (default %(default)s)")
    parser.add_argument("--seed", type=count, default=1_000_000, help="of the first scene (default %(default)s)")
    parser.add_argument("--workers", type=positive, default=2)
    return ended(lambda a: take_all(a.out, a.set, a.scenes, a.pictures, a.seed, a.workers), parser, given)


if __name__ == "__main__":
    raise SystemExit(main())
