"""Records demonstrations of MT10 or MT50 as `examples.metaworld.demos` does, seen from the table's camera.

    python -m examples.metaworld.mt.demos -o out/mt10/data
    python -m examples.metaworld.mt.demos -o out/mt50/data --set mt50 --workers 16

Shards as there, with pictures of 128 x 128 and one array more:

    places    float32 (N, 9)           x, y, z [m] of object 1, object 2 and the goal; NaN where a task has none

`places` is privileged: for the lesson of places in training, never for a policy. The goal is drawn in the pictures, as
in the published data sets. Of the episodes of a drawer or window task, some start half-way open, where only the words
say what is to be done. What disturbs the expert is in `pushes.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgevla.sim.metaworld import TASKS
from edgevla.sim.names import ALL_TASKS
from edgevla.sim.view import TABLE
from examples.arguments import count, positive
from examples.ended import ended
from examples.metaworld.demos import Calm, Disturbance, Group, Recording, content_of, record_missing
from examples.metaworld.folder import claim, finish
from examples.metaworld.mt.pushes import Pushes
from examples.metaworld.mt.tasks import SETS, Which, tasks, vocabulary, words

DISTURBERS = {"pushes": Pushes, "noise": Disturbance, "none": Calm}
RECORDING = Recording(TABLE, frame_every=4, max_ticks=400, places=True, disturber=Pushes)
SEEDS = 10_000  # of a shard: no two have the same scenes; stills begin at 1,000,000, evaluation at 9,000,000
HALF_WAY_SEED = 600_000
CAMERA = {"name": TABLE.name, "height": TABLE.size_px, "width": TABLE.size_px}


def plan(which: Which, episodes: int, half_way: int, seed: int) -> list[Group]:
    """The shards to record; a task has the same scenes in MT10 and in MT50."""
    groups = []
    for task in (task.name for task in tasks(which)):
        number = ALL_TASKS.index(task)
        known = TASKS.get(task)
        halves = min(half_way, episodes) if known and known.mechanism else 0
        if episodes > halves:
            groups.append(Group(task, False, episodes - halves, seed + SEEDS * number))
        if halves:
            groups.append(Group(task, True, halves, seed + HALF_WAY_SEED + SEEDS * number))
    return groups


def record(
    out: Path, which: Which, episodes: int, half_way: int, seed: int, workers: int, disturb: str = "pushes"
) -> None:
    """Records all missing shards and writes `dataset.json` last. Raises BadInput: as in the other recorder."""
    groups = plan(which, episodes, half_way, seed)
    more = {"set": which, "disturb": disturb, "camera": CAMERA}
    content = {**content_of(groups, seed, RECORDING.frame_every), **more}
    claim(out, content)
    record_missing(groups, out, workers, replace(RECORDING, disturber=DISTURBERS[disturb]))
    known = {task.name: task.train[0] for task in tasks(which)}
    told = {"instructions": words(which), "known_instructions": known, "vocabulary": vocabulary(which)}
    finish(out, {**content, **told})


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, default="mt10", help="which tasks (default %(default)s)")
    parser.add_argument("--episodes", type=positive, default=50, help="per task (default %(default)s)")
    parser.add_argument(
        "--half-way", type=count, default=15, help="of them, for drawers and windows half open (default %(default)s)"
    )
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument(
        "--disturb", choices=DISTURBERS, default="pushes", help="the expert; others for ablations (default %(default)s)"
    )
    return ended(lambda a: record(a.out, a.set, a.episodes, a.half_way, a.seed, a.workers, a.disturb), parser, given)


if __name__ == "__main__":
    raise SystemExit(main())
