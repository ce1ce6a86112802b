"""A tiny untrained policy of MT10 for two tasks: its data set, its folder as a teacher, and its bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevla.sim import lockstep
from examples.metaworld.mt.tasks import tasks, vocabulary, words
from export import compress as steps
from export.data.ours import OurData
from export.evidence import outcomes, rollouts
from export.evidence.rollouts import Played, PolicySpec, Worker
from export.request import DIRECT, ArtifactAsk, Request, TeacherAsk
from export.structures.config import StructureConfig
from export.structures.families.ours import Ours, OwnModel, OwnSizes
from export.structures.lessons import spec_of
from export.structures.policy import StructurePolicy
from export.structures.teacher import StructureTeacher

TASKS = ("drawer-open-v3", "window-close-v3")
SIDE, TICKS = 128, 60  # pixels, ticks of the data of a task
MT = tuple(task for task in tasks("mt10") if task.name in TASKS)


@dataclass(frozen=True)
class Desk:
    """Where teacher and bundle lie; not to be written to."""

    teacher: Path
    bundle: Path


def write_desk(folder: Path, head: str = "flow") -> Desk:
    """Trains nothing: random weights, packed as they are."""
    data = write_data(folder / "data")
    teacher = teacher_of(data, head)
    teacher.save(folder / "teacher")
    request = Request(
        TeacherAsk(str(folder / "teacher")), str(folder / "data"), folder / "tiny.bundle", folder / "work", "1s", 0, 1,
        mode=DIRECT, artifact=ArtifactAsk("dynamic-s8", smooth=False),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("PARITY_FRAMES", 3), ("CALIBRATION_FRAMES", 2)):
            patch.setattr(steps, name, count)
        steps.compress(request)
    return Desk(folder / "teacher", folder / "tiny.bundle")


def teacher_of(data: OurData, head: str) -> StructureTeacher:
    known = tuple(vocabulary("mt10"))
    spec = spec_of(data, "structure", (SIDE, SIDE), 32, 8, 16, 1, 8, noise=head == "flow")
    sizes = OwnSizes(len(known) + 1, (SIDE, SIDE), 32, 32, 2, 1, 256)
    config = StructureConfig(
        "one-step",
        head,
        1,
        stride=8,
        pictures=1,
        state=4,
        actions=4,
        horizon=32,
        d_max=8,
        width=32,
        heads=2,
        steps=2,
        told=9,
    )
    torch.manual_seed(0)
    return StructureTeacher(StructurePolicy(config, Ours(OwnModel(sizes), sizes.picture)), spec, known).eval()


def write_data(folder: Path) -> OurData:
    """Random pictures and motions, as `examples.metaworld.mt.demos` writes them."""
    folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    for task in TASKS:
        np.savez(folder / f"{task}.npz", **_shard(dice))
    shards = [{"file": f"{task}.npz", "task": task, "half_way": False, "episodes": 2} for task in TASKS]
    meta = {
        "schema": "edgevla.demos/1", "period_s": 0.0125, "frame_every": 4, "shards": shards,
        "camera": {"name": "table", "height": SIDE, "width": SIDE}, "instructions": words("mt10"),
        "known_instructions": {task.name: task.train[0] for task in MT}, "vocabulary": vocabulary("mt10"),
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(meta))
    return OurData(folder)


def _shard(dice: np.random.Generator) -> dict[str, Any]:
    state = dice.uniform([-0.1, 0.5, 0.1, 0.0], [0.1, 0.7, 0.3, 1.0], (TICKS, 4)).astype(np.float32)
    actions = dice.uniform(-1, 1, (2, TICKS, 4)).astype(np.float32)
    episode = np.arange(TICKS) // (TICKS // 2)
    return {
        "image": dice.integers(0, 256, (TICKS // 4, SIDE, SIDE, 3), np.uint8),
        "frame": np.minimum(np.arange(TICKS) // 4, TICKS // 4 - 1).astype(np.int32),
        "state": state, "executed": actions[0], "expert": actions[1], "episode": episode.astype(np.int32),
    }  # fmt: skip


def in_this_process(monkeypatch: pytest.MonkeyPatch, ticks: int) -> list[PolicySpec]:
    """Plays without a pool, episodes of so many ticks at most; what was played is added to the list."""
    played: list[PolicySpec] = []
    whole = rollouts.loop_of

    def stream(spec: PolicySpec, episodes: Any, workers: int, ray: str | None = None) -> Iterator[list[Played]]:
        played.append(spec)
        worker = Worker(spec)
        yield from map(worker.play, rollouts._batches(episodes))

    monkeypatch.setattr(outcomes, "stream", stream)
    monkeypatch.setattr(rollouts, "loop_of", lambda bundle: replace(whole(bundle), max_ticks=ticks))
    monkeypatch.setattr(lockstep, "HALF_WAY_TICKS", ticks)
    return played
