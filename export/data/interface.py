"""What a dataset of recorded episodes is to the rest of the pipeline, whatever format it is kept in.

Shapes: n ticks in all, B picked ticks, N cameras, S state, A action. Everything is raw: units as recorded, pixels RGB.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain

if TYPE_CHECKING:
    from export.teachers.interface import TeacherSpec

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]
Ticks = npt.NDArray[np.integer[Any]] | Sequence[int]
_NUMBERED = re.compile(r"(state|action|environment)_\d+")  # names given where the recorder left none


@dataclass(frozen=True)
class Camera:
    """One stream of pictures as the dataset holds it."""

    name: str  # without "observation.images." or "observation."
    height: int  # pixels
    width: int


class RobotDataset(Protocol):
    """Recorded episodes, indexed by tick. Ticks of an episode follow one another; episodes are not mixed."""

    @property
    def sha256(self) -> str:
        """Of all files that pixels and numbers come from."""

    @property
    def fps(self) -> float: ...

    @property
    def period_s(self) -> float: ...

    @property
    def cameras(self) -> tuple[Camera, ...]: ...

    @property
    def state_names(self) -> tuple[str, ...]: ...

    @property
    def action_names(self) -> tuple[str, ...]: ...

    @property
    def state(self) -> Float32:
        """(n, S)."""

    @property
    def action(self) -> Float32:
        """(n, A), the label: what is to be done there."""

    @property
    def executed(self) -> Float32:
        """(n, A), what was commanded there: a prefix is made of it. `action` itself where nothing else was recorded."""

    @property
    def episode(self) -> Int64:
        """(n,), number of the tick's episode, from 0."""

    @property
    def start(self) -> Int64:
        """(n,), first tick of the tick's episode."""

    @property
    def end(self) -> Int64:
        """(n,), one past the last tick of the tick's episode."""

    @property
    def task_index(self) -> Int64:
        """(n,), which of `instructions` was followed."""

    @property
    def instructions(self) -> list[str]: ...

    @property
    def wordings(self) -> list[list[str]]:
        """Per instruction, sentences that mean the same and may be trained on; itself among them."""

    def __len__(self) -> int: ...

    def instruction(self, tick: int) -> str: ...

    def images(self, ticks: Ticks) -> Uint8:
        """(B, N, h, w, 3), cameras in the order of `cameras`. Raises BadInput where they differ in size."""

    def image(self, ticks: Ticks, camera: str) -> Uint8:
        """(B, h, w, 3) of one camera."""


def episode_bounds(episode: Int64) -> tuple[Int64, Int64]:
    """First tick and one past the last of each tick's episode, int64 (n,) each; equal numbers stand together."""
    first = np.flatnonzero(np.diff(episode, prepend=episode[:1] - 1))
    last = np.append(first[1:], len(episode))
    return np.repeat(first, last - first).astype(np.int64), np.repeat(last, last - first).astype(np.int64)


HELD_EVERY = 10  # episodes: the first of ten is never trained on


def held_out(start: Int64) -> npt.NDArray[np.bool_]:
    """Which ticks (n,) belong to episodes kept for judging; none where there are fewer than ten."""
    episode = np.unique(start, return_inverse=True)[1]
    few = len(episode) == 0 or episode.max() + 1 < HELD_EVERY
    return np.zeros(len(start), bool) if few else np.asarray(episode % HELD_EVERY == 0)


def numbered(kind: str, count: int) -> tuple[str, ...]:
    """Names where the recorder left none, `state_0, state_1, ...`: they say nothing about the robot."""
    return tuple(f"{kind}_{number}" for number in range(count))


def stacked(dataset: RobotDataset, ticks: Ticks) -> Uint8:
    """`images` from `image`."""
    sizes = {(camera.height, camera.width) for camera in dataset.cameras}
    if len(sizes) != 1:
        got = ", ".join(f"{c.name} {c.height} x {c.width}" for c in dataset.cameras) or "no camera"
        todo = "ask for one camera at a time: image(ticks, camera)"
        raise BadInput(explain("pictures of all cameras at once", "cameras of one size", got, todo))
    return np.stack([dataset.image(ticks, camera.name) for camera in dataset.cameras], axis=1)


def require_same_embodiment(dataset: RobotDataset, spec: TeacherSpec) -> None:
    """The dataset was recorded on the robot that the teacher drives. Raises BadInput naming what differs."""
    for kind, mine, theirs in (
        ("state", dataset.state_names, spec.state),
        ("action", dataset.action_names, spec.actions),
    ):
        unnamed = any(_NUMBERED.fullmatch(name) for name in (*mine, *theirs))
        if len(mine) != len(theirs) or (mine != theirs and not unnamed):
            _other_robot(kind, f"{len(theirs)} numbers: {', '.join(theirs)}", f"{len(mine)}: {', '.join(mine)}")
    have = {camera.name: camera for camera in dataset.cameras}
    for wanted in spec.cameras:
        camera = have.get(wanted.name)
        if camera is None and wanted.when_missing != "blank":
            _other_robot("camera", f"a camera {wanted.name}", ", ".join(have) or "no camera")
        if camera and wanted.fit == "exact" and (camera.height, camera.width) != (wanted.height, wanted.width):
            size = f"{camera.height} x {camera.width}"
            _other_robot(f"camera {wanted.name}", f"{wanted.height} x {wanted.width} pixels", size)


def _other_robot(what: str, expected: str, got: str) -> None:
    todo = "take a dataset of the robot that this teacher was trained on"
    raise BadInput(explain(f"{what} of the dataset is not that of the teacher", expected, got, todo))
