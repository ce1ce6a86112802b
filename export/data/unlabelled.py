"""Demonstrations and pictures without actions as one data set: what a teacher can be asked about, beyond what was done.

Demonstrations show few scenes, and a picture needs no action for the question what the teacher would do there.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from edgevla.errors import BadInput, explain
from export.data.interface import Ticks, Uint8
from export.data.ours import OurData
from export.data.stills import Stills


class WithStills(OurData):
    """The ticks of the demonstrations, then each still as an episode of one tick.

    What was done in a still is nothing: no motion, and the gripper at the mean of what it was told elsewhere. It counts
    for the prefix that a teacher is given, and for nothing else.
    """

    def __init__(self, demonstrations: Path, stills: Path) -> None:
        """Raises BadInput: as `OurData` and `Stills`; they are of other cameras, states or tasks."""
        super().__init__(demonstrations)
        self._stills, self._done = Stills(stills), super().__len__()
        _require_alike(self, self._stills)
        count = len(self._stills)
        nothing = np.zeros((count, len(self.action_names)), np.float32)
        nothing[:, -1] = self.executed[:, -1].mean()
        alone = self._done + np.arange(count, dtype=np.int64)
        number = np.array([self.instructions.index(text) for text in self._stills.instructions], np.int64)
        self.state = np.concatenate([self.state, self._stills.state])
        self.action = np.concatenate([self.action, nothing])
        self.executed = np.concatenate([self.executed, nothing])
        self.start, self.end = np.concatenate([self.start, alone]), np.concatenate([self.end, alone + 1])
        self.episode = np.concatenate([self.episode, self.episode[-1] + 1 + np.arange(count, dtype=np.int64)])
        self.task_index = np.concatenate([self.task_index, number[self._stills.task_index]])
        self.places = None  # a lesson of the teacher's

    @cached_property
    def sha256(self) -> str:
        """Over both."""
        return hashlib.sha256(f"{super().sha256} {self._stills.sha256}".encode()).hexdigest()

    def image(self, ticks: Ticks, camera: str) -> Uint8:
        picked = np.asarray(ticks, np.int64)
        done = picked < self._done
        shown = np.empty((len(picked), self.cameras[0].height, self.cameras[0].width, 3), np.uint8)
        if done.any():
            shown[done] = super().image(picked[done], camera)
        if not done.all():
            shown[~done] = self._stills.images(picked[~done] - self._done)
        return shown


def _require_alike(data: OurData, stills: Stills) -> None:
    todo = "take the pictures of this robot, and of its tasks"
    pairs = (("camera", data.cameras[0], stills.camera), ("state", data.state.shape[1], stills.state.shape[1]))
    for what, expected, got in pairs:
        if expected != got:
            raise BadInput(explain(f"{what} of the stills", expected, got, todo))
    if missing := sorted(set(stills.instructions) - set(data.instructions)):
        raise BadInput(explain("instructions of the stills", "those of the demonstrations", missing[0], todo))
