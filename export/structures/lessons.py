"""A recorded dataset as rows of moments for training: what was seen, heard and done at T ticks, `stride` apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgevla.errors import BadInput, explain
from export.data.interface import held_out
from export.data.stills import Stills
from export.distill.source import Recorded
from export.structures.pictures import light_of, shown, stacked
from export.structures.places import require_places
from export.teachers.interface import Affine, CameraSpec, TeacherSpec

Array = npt.NDArray[Any]
Encode = Callable[[str], tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]
REACH = 0.999  # share of the recorded actions that lie within +-1 once normalised
_LEAST = 1e-6  # scale of a channel that never moves


def spec_of(
    data: Recorded, name: str, picture: tuple[int, int], horizon: int, d_max: int, max_tokens: int,
    moments: int, stride: int, fitting: str = "stretch", noise: bool = True,
) -> TeacherSpec:  # fmt: skip
    """What a policy of this dataset is fed with. State: mean and deviation. Actions: affine, nearly all within +-1."""
    state = np.asarray(data.state, np.float64)
    low, high = np.quantile(np.asarray(data.action, np.float64), [1 - REACH, REACH], axis=0)
    names = tuple(data.action_names)
    return TeacherSpec(
        name=name,
        cameras=tuple(CameraSpec(camera.name, *picture, fit=_fit(camera, picture, fitting)) for camera in data.cameras),
        state=tuple(data.state_names),
        actions=names,
        horizon=horizon,
        d_max=d_max,
        max_tokens=max_tokens,
        noise=len(names) if noise else 0,
        state_stats=Affine(_float(state.mean(0)), _float(np.maximum(state.std(0), _LEAST))),
        action_stats=Affine(_float((low + high) / 2), _float(np.maximum((high - low) / 2, _LEAST))),
        observations=moments,
        stride=stride,
    )


@dataclass(frozen=True)
class Sizes:
    """Of one batch: rows, and moments in each."""

    rows: int
    moments: int


class Lessons:
    """Batches of `export.structures.objective`, the same for the same seed.

    Args:
        data: recorded episodes; every tenth is held out where there are enough.
        spec: of the policy.
        encode: a sentence to ids and mask, as the policy's `tokenize`.
        sizes: of a batch.
        seed: of every draw.
        dark: share of pictures that are black: what a policy learns that cannot see all the time.
        demonstrations: so many of each task, the first ones; 0: all.
        light: largest change of brightness and contrast of a picture, as a share.
        places: whether batches hold the recorded places.
        foreseen: rows of a chunk count until a disturbance comes: nobody can foresee what is wanted after it.

    Raises:
        BadInput: no episode is left to train on.
    """

    def __init__(
        self, data: Recorded, spec: TeacherSpec, encode: Encode, sizes: Sizes, seed: int | Sequence[int],
        dark: float = 0.0, demonstrations: int = 0, light: float = 0.0, places: bool = False, foreseen: bool = False,
    ) -> None:  # fmt: skip
        self._data, self._spec, self._sizes, self._dark, self._light = data, spec, sizes, dark, light
        self._places = require_places(getattr(data, "places", None), "the demonstrations") if places else None
        self.rng = np.random.default_rng(seed)
        sentences = [list(texts) or [""] for texts in data.wordings] or [[""]]
        self._heard = [[encode(text) for text in texts] for texts in sentences]
        self._ticks = np.flatnonzero(_usable(data, demonstrations))
        self._disturbed = None
        if foreseen:
            self._disturbed = next_disturbed(np.asarray(data.action), np.asarray(data.executed))
        if not len(self._ticks):
            got, todo = f"{len(data)} ticks, all held out", "record more episodes"
            raise BadInput(explain("episodes to train on", "one or more", got, todo))

    def next(self) -> dict[str, Tensor]:
        """A batch, as the objective takes it."""
        return shown(self.drawn())

    def drawn(self) -> dict[str, Tensor]:
        """A batch before `export.structures.pictures.shown`, which costs most: where it is best done, others know."""
        data, spec, count = self._data, self._spec, self._sizes.rows
        newest = self._ticks[self.rng.integers(len(self._ticks), size=count)]
        back = spec.stride * np.arange(self._sizes.moments - 1, -1, -1)
        ticks = np.maximum(newest[:, None] - back, data.start[newest][:, None])  # (B, T)
        heard = self._sentences(newest)
        return {
            **self._seen(ticks),
            "state": torch.from_numpy(spec.state_stats.apply(np.asarray(data.state)[ticks])),
            **heard,
            **self._chunks(ticks),
            **({} if self._places is None else {"places": torch.from_numpy(self._places[ticks])}),
        }

    def _seen(self, ticks: Array) -> dict[str, Tensor]:
        """image (B, T, P, h, w, 3) and the light of each."""
        flat, cameras = ticks.reshape(-1), self._spec.cameras
        images = stacked([self._data.image(flat, camera.name) for camera in cameras], cameras)
        light = light_of(ticks.shape[0], ticks.shape[1], self._light, self._dark, self.rng)
        return {"image": images.unflatten(0, ticks.shape), "light": light}

    def _sentences(self, ticks: Array) -> dict[str, Tensor]:
        choices: Sequence[Any] = [self._heard[task] for task in np.asarray(self._data.task_index)[ticks]]
        picked = [choice[self.rng.integers(len(choice))] for choice in choices]
        tokens, mask = (torch.from_numpy(np.stack(column)) for column in zip(*picked, strict=True))
        return {"tokens": tokens, "token_mask": mask}

    def _chunks(self, ticks: Array) -> dict[str, Tensor]:
        """What is to be done from each moment on; a prefix of random length is what was done."""
        data, spec = self._data, self._spec
        ahead, last = np.arange(spec.horizon), data.end[ticks][..., None]
        source = np.minimum(ticks[..., None] + ahead, last - 1)
        depth = self.rng.integers(spec.d_max + 1, size=ticks.shape)[..., None]
        after = np.minimum(ticks[..., None] + depth, last - 1)  # the first tick that is not committed
        known = last if self._disturbed is None else np.minimum(last, 1 + self._disturbed[after])
        committed = (ahead < depth)[..., None]
        chosen = np.where(committed, np.asarray(data.executed)[source], np.asarray(data.action)[source])
        return {
            "actions": torch.from_numpy(spec.action_stats.apply(chosen)),
            "mask": torch.from_numpy(committed.astype(np.float32)),
            "valid": torch.from_numpy((ticks[..., None] + ahead < known).astype(np.float32)[..., None]),
        }


class StillLessons:
    """Batches of pictures without actions (`export.data.stills`), with the keys of `Lessons`: window 1.

    Args:
        stills: pictures with places.
        spec: of the policy.
        encode: a sentence to ids and mask.
        rows: of a batch.
        seed: of every draw.
        light: as in `Lessons`.
    """

    def __init__(
        self, stills: Stills, spec: TeacherSpec, encode: Encode, rows: int, seed: Sequence[int], light: float = 0.0
    ) -> None:
        self._stills, self._spec, self._rows, self._light = stills, spec, rows, light
        self.rng = np.random.default_rng(seed)
        self._heard = [[encode(text) for text in texts] for texts in stills.wordings]

    def drawn(self) -> dict[str, Tensor]:
        """As of `Lessons`."""
        stills, spec, rng = self._stills, self._spec, self.rng
        picked = rng.integers(len(stills.state), size=self._rows)
        heard = [self._heard[task][rng.integers(len(self._heard[task]))] for task in stills.task_index[picked]]
        tokens, mask = (torch.from_numpy(np.stack(column)) for column in zip(*heard, strict=True))
        nothing = torch.zeros(self._rows, 1, spec.horizon, 1)
        return {
            "image": stacked([stills.images(picked)], spec.cameras[:1])[:, None],
            "light": light_of(self._rows, 1, self._light, 0.0, rng),
            "state": torch.from_numpy(spec.state_stats.apply(stills.state[picked]))[:, None],
            "tokens": tokens,
            "token_mask": mask,
            "actions": nothing.expand(-1, -1, -1, len(spec.actions)),
            "mask": nothing,
            "valid": nothing,
            "places": torch.from_numpy(stills.places[picked])[:, None],
        }


def next_disturbed(wanted: Array, executed: Array) -> npt.NDArray[np.int64]:
    """For each tick the first one, from there on, at which something else was done than what was wanted (N,); where
    none comes, the number of ticks."""
    count = len(wanted)
    ticks = np.where((wanted != executed).any(axis=1), np.arange(count), count)
    return np.minimum.accumulate(ticks[::-1])[::-1].astype(np.int64)


def _usable(data: Recorded, demonstrations: int) -> npt.NDArray[np.bool_]:
    """Ticks that a row may end at: not held out, of the first episodes of a task. Every structure draws from the same:
    of a row that begins before its episode the first tick stands for what came before it."""
    start = np.asarray(data.start)
    allowed = ~held_out(start)
    if demonstrations:
        begins, task = np.unique(start), np.asarray(data.task_index)
        counted: dict[int, int] = {}
        taken = set()
        for begin in begins[allowed[begins]].tolist():
            number = counted[int(task[begin])] = counted.get(int(task[begin]), 0) + 1
            if number <= demonstrations:
                taken.add(begin)
        allowed &= np.isin(start, list(taken))
    return allowed


def _fit(camera: Any, picture: tuple[int, int], otherwise: str) -> str:
    return "exact" if (camera.height, camera.width) == picture else otherwise


def _float(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return values.astype(np.float32)
