"""Pictures without actions (see `examples/metaworld/mt/play.py`): what a scene looks like, and where things are in it.

A folder with `dataset.json` and a shard `NAME.npz` for each task, of F pictures:

    image     uint8   (F, h, w, 3)     RGB
    state     float32 (F, S)           what the robot knows of itself
    places    float32 (F, K)           x, y, z [m] of K / 3 things; NaN where a task has none
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgevla.bundle.schema import JsonTable
from edgevla.errors import BadInput, explain
from export.data.interface import Float32, Int64, Ticks, Uint8
from export.data.ours import files_sha256
from export.distill.dataset import camera_of, require_camera, wrong_images

Arrays = dict[str, npt.NDArray[Any]]
SCHEMA = "edgevla.stills/1"
_AGAIN = "take the pictures again"


class Stills:
    """All pictures of a folder in memory, N in all.

    Attributes:
        image: uint8 (F, h, w, 3) of each shard.
        state, places: float32 (N, S) and (N, K).
        shard, row: int64 (N,), where a picture is.
        tasks: of each shard; names: those that differ.
        task_index: int64 (N,), which of `names`.
        instructions, wordings: for each of `names`, the short sentence, and all that may be trained on.
        sentences: the same by name; vocabulary: every word.
    """

    def __init__(self, folder: Path) -> None:
        """Raises BadInput: no such folder, shards that are not whole, a task without a sentence."""
        self.folder, self.meta = folder, _read_meta(folder)
        self.camera = camera_of(self.meta)
        self.cameras = (self.camera,)
        self.tasks: list[str] = [shard["task"] for shard in self.meta["shards"]]
        shards = [self._read(folder / shard["file"]) for shard in self.meta["shards"]]
        self.image: list[Uint8] = [shard["image"] for shard in shards]
        self.state: Float32 = _joined(shards, "state")
        self.places: Float32 = _joined(shards, "places")
        counts = [len(image) for image in self.image]
        self.shard: Int64 = np.repeat(np.arange(len(shards)), counts)
        self.row: Int64 = np.concatenate([np.arange(count) for count in counts])
        self.names = list(dict.fromkeys(self.tasks))
        self.task_index: Int64 = np.array([self.names.index(task) for task in self.tasks], np.int64)[self.shard]
        told = self.meta["instructions"]
        self.sentences: dict[str, list[str]] = {name: list(told[name]["train"]) for name in self.names}
        self.wordings = list(self.sentences.values())
        self.instructions = [texts[0] for texts in self.wordings]
        self.vocabulary: list[str] = list(self.meta["vocabulary"])

    def __len__(self) -> int:
        return len(self.state)

    @cached_property
    def sha256(self) -> str:
        """Over dataset.json and all shards."""
        return files_sha256(self.folder, [shard["file"] for shard in self.meta["shards"]])

    def images(self, rows: Ticks) -> Uint8:
        """Pictures uint8 (B, h, w, 3)."""
        return np.stack([self.image[self.shard[row]][self.row[row]] for row in rows])

    def _read(self, path: Path) -> Arrays:
        try:
            with np.load(path, allow_pickle=False) as archive:
                shard = {key: archive[key] for key in ("image", "state", "places")}
        except FileNotFoundError as error:
            todo = "go on into the same folder: `examples.metaworld.mt.play` takes the missing pictures only"
            raise BadInput(explain("shard of stills", f"{path.name} in {path.parent}", "no such file", todo)) from error
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            todo = f"delete it and {_AGAIN}"
            raise BadInput(explain("shard of stills", f"a whole {path.name}", str(error), todo)) from error
        wrong = wrong_images(shard["image"], self.camera) or _wrong_numbers(shard)
        if wrong:
            raise BadInput(explain("shard of stills", wrong[1], f"{wrong[0]} in {path.name}", _AGAIN))
        return shard


class _Table(JsonTable):
    """A table of dataset.json."""

    todo: ClassVar[str] = _AGAIN


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        meta = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        todo = "take pictures first: python -m examples.metaworld.mt.play"
        raise BadInput(explain("stills", f"{path.name} in {folder}", str(error), todo)) from error
    schema = meta.get("schema") if isinstance(meta, dict) else None
    if schema != SCHEMA:
        raise BadInput(explain("schema of the stills", SCHEMA, repr(schema), _AGAIN))
    _require_sound(_Table(path.name, meta))
    return dict(meta)


def _require_sound(table: _Table) -> None:
    """A camera, shards in this folder, and sentences for the task of each. Raises BadInput."""
    table.raw("camera", "a table")
    require_camera(table)
    words = table.texts("vocabulary")
    if len(set(words)) != len(words):
        table.fail("vocabulary", "words that differ", "a word twice")
    instructions = table.mapping("instructions")
    for task, texts in instructions.items():
        _Table(f"{table.where}: instructions of {task}", texts).texts("train")
    shards = table.raw("shards", "a list of tables")
    if not isinstance(shards, list) or not shards:
        table.fail("shards", "a list of one table or more", shards)
    for number, entry in enumerate(shards):
        shard = _Table(f"{table.where}: shards[{number}]", entry)
        if Path(file := shard.text("file")).name != file:
            shard.fail("file", "the name of a file in this folder", file)
        shard.text("task", tuple(instructions))


def _wrong_numbers(shard: Arrays) -> tuple[str, str] | None:
    """What is wrong with state and places and what was expected, or None."""
    pictures = len(shard["image"])
    for key in ("state", "places"):
        value = shard[key]
        if not pictures or value.dtype != np.float32 or value.ndim != 2 or len(value) != pictures:
            return f"{key} {value.dtype} {value.shape}", f"{key} float32 with one row per picture, ({pictures}, n)"
    if shard["places"].shape[1] % 3:
        return f"{shard['places'].shape[1]} columns of places", "x, y, z of each thing"
    if not np.isfinite(shard["state"]).all() or np.isinf(shard["places"]).any():
        return "NaN or infinity", "finite numbers, NaN in places only"
    return None


def _joined(shards: list[Arrays], key: str) -> Float32:
    widths = sorted({shard[key].shape[1] for shard in shards})
    if len(widths) > 1:
        raise BadInput(explain(f"{key} of the stills", "as many columns in every shard", widths, _AGAIN))
    return np.concatenate([shard[key] for shard in shards])
