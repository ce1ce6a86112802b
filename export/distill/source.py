"""A dataset as questions to a teacher: what to look at, what to hear, what was done then.

A row has no pictures, only the ticks they are of (`seen`): they are fetched when a batch is made.

    seen      int64 (B, T)        ticks of the pictures, oldest first
    tick      int64 (B,)          tick of the newest state
    sentence  int64 (B,)          which of `sentences`
    state     float32 (B, T * S)  normalised as the teacher takes it
    actions   float32 (B, H, A)   what the demonstration did from there, normalised; rows before `depth` are committed
    valid     float32 (B, H, 1)   0 past the end of the episode
    depth     int64 (B,)          length of the prefix, 0 to d_max
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from export.data.interface import held_out
from export.distill.dataset import Batches, Demonstrations, Sampling
from export.teachers.interface import TeacherSpec

Array = npt.NDArray[Any]
Rows = dict[str, Array]
Pictures = list[npt.NDArray[np.uint8]]  # (B, h, w, 3) each, raw; cameras may differ in size


class Camera(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...


class Recorded(Protocol):
    """What is read of a dataset: a part of `export.data.interface.RobotDataset`, which says what it means."""

    @property
    def sha256(self) -> str: ...

    @property
    def period_s(self) -> float: ...

    @property
    def cameras(self) -> Sequence[Camera]: ...

    @property
    def state_names(self) -> Sequence[str]: ...

    @property
    def action_names(self) -> Sequence[str]: ...

    @property
    def state(self) -> npt.NDArray[np.float32]: ...

    @property
    def action(self) -> npt.NDArray[np.float32]: ...

    @property
    def executed(self) -> npt.NDArray[np.float32]: ...

    @property
    def start(self) -> npt.NDArray[np.int64]: ...

    @property
    def end(self) -> npt.NDArray[np.int64]: ...

    @property
    def task_index(self) -> npt.NDArray[np.int64]: ...

    @property
    def wordings(self) -> Sequence[Sequence[str]]: ...

    def __len__(self) -> int: ...

    def instruction(self, tick: int) -> str: ...

    def image(self, ticks: Array, camera: str) -> npt.NDArray[np.uint8]: ...


class Source(Protocol):
    """Questions of one dataset to one teacher."""

    sentences: tuple[str, ...]
    sha256: str
    present: tuple[bool, ...]  # per camera of the teacher

    def draw(self, count: int, seed: int, horizon: int, d_max: int, held: bool = False) -> Rows:
        """Random rows of the episodes to train on, or of those held out; the same for the same arguments."""
        ...

    def before(self, rows: Rows, back: Array) -> tuple[Rows, Array]:
        """The same questions asked `back` (B,) ticks earlier, and how many ticks earlier that really was."""
        ...

    def pictures(self, seen: Array) -> Pictures:
        """T * N of `seen` (B, T): the cameras of the oldest observation first."""
        ...


def pick(rng: np.random.Generator, start: Array, count: int, held: bool) -> Array:
    """Random ticks (count,) of the episodes to train on or of those held out; of all where none are held out.

    What is judged on is not taken twice, where there is enough of it.
    """
    kept = held_out(start)
    choice = np.flatnonzero(kept == held) if kept.any() else np.arange(len(start))
    if held and len(choice) >= count:
        return rng.permutation(choice)[:count]
    return choice[rng.integers(len(choice), size=count)]


class DemoSource:
    """Shards of `examples.metaworld.demos`, as the reference teacher was trained: late frames, paraphrases, what was
    executed as prefix and what the expert wanted behind it."""

    present: tuple[bool, ...] = (True,)

    def __init__(self, data: Demonstrations, statistics: tuple[Array, Array], max_tokens: int) -> None:
        self._data, self._statistics, self._max_tokens = data, statistics, max_tokens
        self.sentences, self.sha256 = data.sentences, data.sha256

    def draw(self, count: int, seed: int, horizon: int, d_max: int, held: bool = False) -> Rows:
        sampling = Sampling(horizon, d_max, self._max_tokens, word_dropout=0.0)
        batches = Batches(self._data, sampling, count, seed, self._statistics)
        return batches.rows(pick(batches.rng, self._data.start, count, held))

    def before(self, rows: Rows, back: Array) -> tuple[Rows, Array]:
        data, ticks = self._data, rows["tick"]
        earlier = np.maximum(ticks - back, data.start[ticks])
        moved = ticks - earlier
        mean, std = self._statistics
        seen = np.maximum(rows["seen"] - moved[:, None], data.start[ticks][:, None])
        state = ((data.state[earlier] - mean) / std).astype(np.float32)
        return {**rows, "tick": earlier, "seen": seen, "state": state}, moved

    def pictures(self, seen: Array) -> Pictures:
        return [self._data.images(seen[:, 0])]


class RobotSource:
    """Any recorded dataset, for any teacher. A tick is shown with a random one of the sentences that mean its task.

    Raises:
        BadInput: it is of another embodiment: other counts of state or action numbers, a camera missing.
    """

    def __init__(self, data: Recorded, spec: TeacherSpec) -> None:
        _require_same_embodiment(data, spec)
        self._data, self._spec = data, spec
        self.sentences = tuple(dict.fromkeys(text for texts in data.wordings for text in texts)) or ("",)
        self.sha256 = data.sha256
        number = {text: i for i, text in enumerate(self.sentences)}
        self._choices = [[number[text] for text in texts] for texts in data.wordings]
        names = {camera.name for camera in data.cameras}
        self.present = tuple(camera.name in names for camera in spec.cameras)

    def draw(self, count: int, seed: int, horizon: int, d_max: int, held: bool = False) -> Rows:
        rng, data = np.random.default_rng(seed), self._data
        ticks = pick(rng, data.start, count, held)
        depth = rng.integers(d_max + 1, size=count)
        ahead, last = np.arange(horizon), data.end[ticks][:, None]
        source = np.minimum(ticks[:, None] + ahead, last - 1)
        committed = (ahead < depth[:, None])[..., None]
        return {
            **self._observe(ticks),
            "sentence": self._sentences(ticks, rng),
            "actions": self._spec.action_stats.apply(np.where(committed, data.executed[source], data.action[source])),
            "valid": (ticks[:, None] + ahead < last).astype(np.float32)[..., None],
            "depth": depth,
        }

    def _sentences(self, ticks: Array, rng: np.random.Generator) -> Array:
        if not self._choices:
            return np.zeros(len(ticks), np.int64)
        choices = [self._choices[task] for task in self._data.task_index[ticks]]
        return np.array([choice[rng.integers(len(choice))] for choice in choices], np.int64)

    def _observe(self, ticks: Array) -> Rows:
        data, back = self._data, self._spec.stride * np.arange(self._spec.observations - 1, -1, -1)
        seen = np.maximum(ticks[:, None] - back, data.start[ticks][:, None])
        state = self._spec.state_stats.apply(data.state[seen])
        return {"seen": seen, "tick": ticks, "state": state.reshape(len(ticks), -1)}

    def before(self, rows: Rows, back: Array) -> tuple[Rows, Array]:
        ticks = rows["tick"]
        earlier = np.maximum(ticks - back, self._data.start[ticks])
        return {**rows, **self._observe(earlier)}, ticks - earlier

    def pictures(self, seen: Array) -> Pictures:
        return [self._picture(column, i) for column in seen.T for i in range(len(self.present))]

    def _picture(self, ticks: Array, number: int) -> npt.NDArray[np.uint8]:
        """Of one camera; black where the dataset has no such camera."""
        camera = self._spec.cameras[number]
        if self.present[number]:
            return self._data.image(ticks, camera.name)
        return np.zeros((len(ticks), camera.height, camera.width, 3), np.uint8)


def _require_same_embodiment(data: Recorded, spec: TeacherSpec) -> None:
    expected = f"{len(spec.state)} state and {len(spec.actions)} action numbers, as {spec.name} was trained"
    if data.state.shape[1] != len(spec.state) or data.action.shape[1] != len(spec.actions):
        got = f"{data.state.shape[1]} ({', '.join(data.state_names)}), {data.action.shape[1]}"
        raise BadInput(
            explain(
                "dataset of another embodiment", expected, f"{got} ({', '.join(data.action_names)})", "take another"
            )
        )
    names = [camera.name for camera in data.cameras]
    absent = [c.name for c in spec.cameras if c.name not in names and c.when_missing == "refuse"]
    if absent:
        todo = "record or map that camera"
        raise BadInput(
            explain("cameras of the dataset", f"{', '.join(absent)} too", f"{', '.join(names) or 'no camera'}", todo)
        )
