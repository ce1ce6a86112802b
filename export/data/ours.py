"""Our own demonstration shards (`export.distill.dataset.Demonstrations`) as a `RobotDataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from edgevla.errors import BadInput, explain
from export.channels import ACTION_NAMES, ACTION_SCALE, STATE
from export.data.interface import Ticks, Uint8, stacked
from export.distill.dataset import FRAME_EVERY, Demonstrations


class OurData:
    """See `export.data.interface.RobotDataset`: `action` is what the expert wanted, `executed` has the disturbance.

    Both are metres per tick and gripper effort; the shards hold them in steps of the policy, `ACTION_SCALE` each.
    places: float32 (n, 9), privileged, x, y, z (m) of two objects and the goal; None where none were recorded.
    """

    def __init__(self, folder: Path) -> None:
        """Raises BadInput: shards that are not whole, no period, a task without an instruction."""
        self.folder, self.demonstrations = folder, Demonstrations(folder)
        data, record = self.demonstrations, self.demonstrations.meta
        period_s = record.get("period_s")
        if not isinstance(period_s, (int, float)) or not 0 < period_s < 60:
            raise BadInput(
                explain(f"`period_s` of {folder / 'dataset.json'}", "seconds per tick", period_s, "record it again")
            )
        self.period_s, self.fps = float(period_s), 1.0 / period_s
        self.frame_rate_hz = self.fps / record.get("frame_every", FRAME_EVERY)  # of the pictures
        self.cameras, self.places = (data.camera,), data.places
        self.state_names = tuple(name for name, _ in STATE)
        self.action_names = ACTION_NAMES
        self.state = data.state
        self.action, self.executed = data.expert * ACTION_SCALE, data.executed * ACTION_SCALE  # m, m, m, effort
        self.start, self.end = data.start.astype(np.int64), data.end.astype(np.int64)
        self.episode = np.cumsum(np.arange(len(data)) == self.start, dtype=np.int64) - 1
        tasks = list(dict.fromkeys(data.tasks))
        self.task_index = np.array([tasks.index(task) for task in data.tasks], np.int64)[data.shard]
        known = record["known_instructions"]
        self.instructions = [known.get(task) or data.instructions[task]["train"][0] for task in tasks]
        self.wordings = [list(data.instructions[task]["train"]) for task in tasks]

    def __len__(self) -> int:
        return len(self.state)

    @cached_property
    def sha256(self) -> str:
        """Over dataset.json and all shards."""
        return files_sha256(self.folder, [shard["file"] for shard in self.demonstrations.meta["shards"]])

    def instruction(self, tick: int) -> str:
        return self.instructions[self.task_index[tick]]

    def images(self, ticks: Ticks) -> Uint8:
        return stacked(self, ticks)

    def image(self, ticks: Ticks, camera: str) -> Uint8:
        if camera != self.cameras[0].name:
            raise BadInput(explain("camera", self.cameras[0].name, camera, "ask for one that was recorded"))
        return self.demonstrations.images(np.asarray(ticks, np.int64))


def files_sha256(folder: Path, shards: Sequence[str]) -> str:
    """Over dataset.json and the shards of that folder."""
    digest = hashlib.sha256()
    for name in ("dataset.json", *sorted(shards)):
        with (folder / name).open("rb") as file:
            inner = hashlib.sha256()
            while block := file.read(1 << 20):
                inner.update(block)
        digest.update(f"{name} {inner.hexdigest()}\n".encode())
    return digest.hexdigest()
