"""Demonstration shards (see `examples/metaworld/demos.py` for the format) as training batches."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgevla.bundle.schema import JsonTable
from edgevla.errors import BadInput, explain
from edgevla.policy.tokens import Vocabulary
from export.channels import TRAINING_CAMERA
from export.data.interface import Camera

Array = npt.NDArray[Any]
SCHEMA = "edgevla.demos/1"
CAMERA = Camera(TRAINING_CAMERA.name, TRAINING_CAMERA.height, TRAINING_CAMERA.width)  # where dataset.json names none
FRAME_EVERY = 2  # ticks between two pictures, where dataset.json says nothing
MAX_FRAME_EVERY = 1000
MAX_SIDE = 4096  # pixels
PLACES = 9  # x, y, z (m) of object 1, object 2 and the goal, see `MetaworldPlant.places`
_SHAPES: dict[str, tuple[int, ...]] = {"frame": (), "state": (4,), "executed": (4,), "expert": (4,), "episode": ()}
MAX_IMAGE_LAG = 3  # ticks by which the newest camera frame may be older than the state


@dataclass(frozen=True)
class Sampling:
    """How a tick becomes a training example."""

    horizon: int
    d_max: int
    max_tokens: int
    blank_words: bool = False
    word_dropout: float = 0.1
    hold_start: float = 0.5  # share of first ticks shown after a held prefix, as the loop starts


class Demonstrations:
    """All shards of a dataset folder in memory, indexed by tick.

    places: float32 (N, 9), privileged, NaN where the recorder knew none; None where no shard has any.
    """

    def __init__(self, folder: Path) -> None:
        self.meta = _read_meta(folder)
        self._folder, self.camera = folder, camera_of(self.meta)
        shards = [_read_shard(folder / shard["file"], self.camera) for shard in self.meta["shards"]]
        self.image = [shard["image"] for shard in shards]
        self.state = np.concatenate([shard["state"] for shard in shards])
        self.executed = np.concatenate([shard["executed"] for shard in shards])
        self.expert = np.concatenate([shard["expert"] for shard in shards])
        self.shard = np.concatenate([np.full(len(s["state"]), i, np.int32) for i, s in enumerate(shards)])
        self.frame = np.concatenate([shard["frame"] for shard in shards])
        self.start, self.end = _episode_bounds(shards)
        self.places = _places(shards)
        self.tasks = [shard["task"] for shard in self.meta["shards"]]
        self.instructions: dict[str, dict[str, list[str]]] = self.meta["instructions"]
        self.sentences = tuple(dict.fromkeys(text for texts in self.instructions.values() for text in texts["train"]))

    @property
    def sha256(self) -> str:
        """Of dataset.json and of the CRC-32 of every array, which its shard lists: instant at any size."""
        digest = hashlib.sha256((self._folder / "dataset.json").read_bytes())
        for shard in self.meta["shards"]:
            with ZipFile(self._folder / shard["file"]) as archive:
                sums = [(array.filename, array.file_size, array.CRC) for array in archive.infolist()]
            digest.update(json.dumps(sums).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.state)

    def images(self, ticks: Array) -> npt.NDArray[np.uint8]:
        """Newest frame at each tick, uint8 (B, h, w, 3)."""
        return np.stack([self.image[self.shard[tick]][self.frame[tick]] for tick in ticks])

    def vocabulary(self, max_tokens: int) -> Vocabulary:
        return Vocabulary(tuple(self.meta["vocabulary"]), max_tokens)

    def state_statistics(self) -> tuple[Array, Array]:
        """Mean and standard deviation of the state, float32 (S,) each."""
        return self.state.mean(0), self.state.std(0) + 1e-3


class _Table(JsonTable):
    """A table of dataset.json."""

    todo: ClassVar[str] = "record it again"


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        meta = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            explain("dataset", f"{path.name} in {folder}", str(error), "record demonstrations first")
        ) from error
    schema = meta.get("schema") if isinstance(meta, dict) else None
    if schema != SCHEMA:
        raise BadInput(explain("dataset schema", SCHEMA, repr(schema), "record it again"))
    _require_sound(_Table(path.name, meta))
    return dict(meta)


def _require_sound(table: _Table) -> None:
    """Shards in this folder, and words for the task of each. Raises BadInput."""
    require_camera(table)
    if table.has("frame_every"):
        table.whole("frame_every", 1, MAX_FRAME_EVERY)
    words = table.texts("vocabulary")
    if len(set(words)) != len(words):
        table.fail("vocabulary", "words that differ", "a word twice")
    instructions, known = table.mapping("instructions"), table.mapping("known_instructions")
    for key, value in (("instructions", instructions), ("known_instructions", known)):
        if not value:
            table.fail(key, "one task or more", value)
    for task, texts in instructions.items():
        wording = _Table(f"{table.where}: instructions of {task}", texts)
        wording.texts("train")
        if "held_out" in texts:
            wording.texts("held_out")
    for task in known:
        _Table(f"{table.where}: known_instructions", known).text(task)
    shards = table.raw("shards", "a list of tables")
    if not isinstance(shards, list) or not shards:
        table.fail("shards", "a list of one table or more", shards)
    for number, entry in enumerate(shards):
        shard = _Table(f"{table.where}: shards[{number}]", entry)
        if Path(file := shard.text("file")).name != file:
            shard.fail("file", "the name of a file in this folder", file)
        shard.text("task", tuple(instructions))


def require_camera(table: JsonTable) -> None:
    """The optional camera: its name, and its height and width in pixels. Raises BadInput."""
    if table.has("camera"):
        camera = _Table(f"{table.where}: camera", table.raw("camera", "a table"))
        camera.text("name")
        for side in ("height", "width"):
            camera.whole(side, 1, MAX_SIDE)


def camera_of(meta: dict[str, Any]) -> Camera:
    """The camera of a checked dataset.json."""
    camera = meta.get("camera")
    return Camera(camera["name"], camera["height"], camera["width"]) if camera else CAMERA


def _read_shard(path: Path, camera: Camera) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            optional = ("places",) if "places" in archive else ()
            shard = {key: archive[key] for key in (*_SHAPES, "image", *optional)}
    except FileNotFoundError as error:
        todo = "record again into the same folder: `examples.metaworld.demos` records the missing shards only"
        raise BadInput(explain("dataset shard", f"{path.name} in {path.parent}", "no such file", todo)) from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise BadInput(
            explain("dataset shard", f"a whole {path.name}", str(error), "delete it and record again")
        ) from error
    wrong = _wrong_arrays(shard, camera)
    if wrong:
        raise BadInput(explain("dataset shard", wrong[1], f"{wrong[0]} in {path.name}", "record it again"))
    return shard


def _wrong_arrays(shard: dict[str, Array], camera: Camera) -> tuple[str, str] | None:
    """What is wrong with the arrays and what was expected, or None."""
    ticks, image = len(shard["state"]), shard["image"]
    for key, columns in _SHAPES.items():
        if shard[key].shape != (ticks, *columns) or not ticks:
            return f"{key} {shard[key].shape}", f"{key} with one row per tick, {(ticks, *columns)}"
    if wrong := wrong_images(image, camera):
        return wrong
    if "places" in shard and (wrong := wrong_places(shard["places"], ticks)):
        return wrong
    if not all(np.isfinite(shard[key]).all() for key in ("state", "executed", "expert")):
        return "NaN or infinity", "finite numbers"
    if shard["frame"].min() < 0 or shard["frame"].max() >= len(image):
        return "a frame number outside its images", f"frame numbers 0 to {len(image) - 1}"
    if (np.diff(shard["episode"]) < 0).any():
        return "episode numbers that fall", "episode numbers in rising order"
    return None


def wrong_images(image: Array, camera: Camera) -> tuple[str, str] | None:
    """What is wrong with the pictures and what was expected, or None."""
    if image.dtype != np.uint8 or image.shape[1:] != (camera.height, camera.width, 3):
        return f"image {image.dtype} {image.shape}", f"image uint8 (F, {camera.height}, {camera.width}, 3)"
    return None


def wrong_places(places: Array, rows: int) -> tuple[str, str] | None:
    """The same for places; NaN where a task has no such thing."""
    if places.dtype != np.float32 or places.shape != (rows, PLACES):
        return f"places {places.dtype} {places.shape}", f"places float32 {(rows, PLACES)}"
    return ("infinity in places", "metres, or NaN") if np.isinf(places).any() else None


def _places(shards: list[dict[str, Array]]) -> Array | None:
    """Of all shards, NaN for those without; None if no shard has any."""
    if not any("places" in shard for shard in shards):
        return None
    unknown = (np.full((len(shard["state"]), PLACES), np.nan, np.float32) for shard in shards)
    return np.concatenate([shard.get("places", none) for shard, none in zip(shards, unknown, strict=True)])


def _episode_bounds(shards: list[dict[str, Array]]) -> tuple[Array, Array]:
    starts, ends, offset = [], [], 0
    for shard in shards:
        first = np.flatnonzero(np.diff(shard["episode"], prepend=-1))
        last = np.append(first[1:], len(shard["episode"]))
        lengths = last - first
        starts.append(np.repeat(first, lengths) + offset)
        ends.append(np.repeat(last, lengths) + offset)
        offset += len(shard["episode"])
    return np.concatenate(starts), np.concatenate(ends)


class Batches:
    """Draws random training batches; same seed, same batches.

    statistics: mean and deviation that normalise the state, those of a teacher that is to be fed; else the dataset's.
    """

    def __init__(
        self,
        data: Demonstrations,
        sampling: Sampling,
        batch: int,
        seed: int,
        statistics: tuple[Array, Array] | None = None,
    ) -> None:
        self.data, self.sampling, self.batch = data, sampling, batch
        self.rng = np.random.default_rng(seed)
        vocabulary = data.vocabulary(sampling.max_tokens)
        self._tokens = np.stack([vocabulary.encode(text) for text in data.sentences])
        number = {text: i for i, text in enumerate(data.sentences)}
        self._choices = {task: [number[t] for t in texts["train"]] for task, texts in data.instructions.items()}
        self.mean, self.std = statistics or data.state_statistics()

    def next(self) -> dict[str, Tensor]:
        """image (B, h, w, 3) in [-1, 1] and where it is (shard, frame), tokens, state, actions (B, H, A),
        mask and valid (B, H, 1)."""
        return self.at(self.rng.integers(len(self.data), size=self.batch))

    def at(self, ticks: Array) -> dict[str, Tensor]:
        """The batch of the given ticks, with random frame age, paraphrase and prefix length."""
        data, rows = self.data, self.rows(ticks)
        seen, ahead = rows["seen"][:, 0], np.arange(self.sampling.horizon)[None, :, None]
        return {
            "image": normalise_image(torch.from_numpy(data.images(seen))),
            "shard": torch.from_numpy(data.shard[seen]),
            "frame": torch.from_numpy(data.frame[seen]),
            "tokens": torch.from_numpy(self._words(rows["sentence"])),
            "state": torch.from_numpy(rows["state"]),
            "actions": torch.from_numpy(rows["actions"]),
            "mask": torch.from_numpy((ahead < rows["depth"][:, None, None]).astype(np.float32)),
            "valid": torch.from_numpy(rows["valid"]),
        }

    def rows(self, ticks: Array) -> dict[str, Array]:
        """The same without pictures and tokens (see `export.distill.source`): a sentence is a number."""
        data, sampling, rng = self.data, self.sampling, self.rng
        lag = rng.integers(MAX_IMAGE_LAG + 1, size=len(ticks))
        depth = rng.integers(sampling.d_max + 1, size=len(ticks))
        actions, valid = self._chunks(ticks, depth)
        return {
            "seen": np.maximum(ticks - lag, data.start[ticks])[:, None],
            "tick": ticks,
            "sentence": self._sentences(ticks),
            "state": ((data.state[ticks] - self.mean) / self.std).astype(np.float32),
            "actions": actions,
            "valid": valid[..., None].astype(np.float32),
            "depth": depth,
        }

    def _chunks(self, ticks: Array, depth: Array) -> tuple[Array, Array]:
        """Prefix = what was executed, rest = what the expert wanted; at a start also: held, then the expert."""
        data, sampling = self.data, self.sampling
        rows = np.arange(sampling.horizon)
        held = (ticks == data.start[ticks]) & (self.rng.random(len(ticks)) < sampling.hold_start)
        shift = np.where(held, depth, 0)[:, None]
        source = ticks[:, None] + rows - shift
        valid = source < data.end[ticks][:, None]
        source = np.clip(source, data.start[ticks][:, None], data.end[ticks][:, None] - 1)
        prefix = (rows < depth[:, None])[..., None]
        executed = np.where(held[:, None, None], np.array([0, 0, 0, -1], np.float32), data.executed[source])
        return np.where(prefix, executed, data.expert[source]).astype(np.float32), valid

    def _sentences(self, ticks: Array) -> Array:
        """A random paraphrase for each tick, int64 (B,): which of the dataset's sentences."""
        choices = [self._choices[self.data.tasks[self.data.shard[tick]]] for tick in ticks]
        return np.array([c[self.rng.integers(len(c))] for c in choices], np.int64)

    def _words(self, sentences: Array) -> Array:
        """Their word ids, some dropped; blank if the sampling says so."""
        tokens = self._tokens[sentences]
        dropped = self.rng.random(tokens.shape) < self.sampling.word_dropout
        dropped[self.rng.random(len(tokens)) < 0.5] = False
        return np.zeros_like(tokens) if self.sampling.blank_words else np.where(dropped, 0, tokens)


def normalise_image(image: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return image.float() / 127.5 - 1.0
