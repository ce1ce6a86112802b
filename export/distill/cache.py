"""Answers of a teacher, kept on disk so that none is asked for twice.

    FOLDER/manifest.json             schema, identity (teacher, dataset, recipe), layout, shards with sha256 and counts
    FOLDER/rows-<sha256>.safetensors

A row is what the teacher answered to one question; its key is a hash of the question (`key_of`). An observation is
what many rows share (tokens, state, features, ...): it has a key of its own and is stored once. A shard counts only
when the manifest lists it and its bytes have the sha256 that stands there; the manifest is replaced as a whole, last.
So a kill, a full disk or a damaged file costs rows, never soundness: they are missing, and made again. Several
processes of one machine may add to one folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from edgevla.bundle.schema import JsonTable, parse_json
from edgevla.errors import BadInput, explain

SCHEMA = "edgevla.target-cache/1"
MANIFEST = "manifest.json"
_ANSWER, _OBSERVATION = "answer.", "observation."
_KEY, _SEEN, _OBSERVATION_KEY = "key", "seen", "observation_key"  # uint8 (n, 32), (n, 32), (u, 32)
_AGAIN = "run the same command again: it goes on with the missing rows"
Places = npt.NDArray[np.int64]  # (n, 2): number of the shard, row in it
Layout = dict[str, list[Any]]  # name -> [dtype, shape of one row]


def key_of(**parts: Any) -> str:
    """SHA-256, 64 hexadecimal digits, of named arrays, tensors, bytes and values that JSON knows."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        head, body = _canonical(parts[name])
        digest.update(json.dumps([name, head, len(body)]).encode() + body)
    return digest.hexdigest()


def _canonical(value: Any) -> tuple[str, bytes]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        raw = value.reshape(-1).view(torch.uint8).numpy()  # by bytes, as NumPy has no bfloat16
        return f"{value.dtype}{tuple(value.shape)}", raw.tobytes()
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}", value.tobytes()
    if isinstance(value, bytes):
        return "bytes", value
    if isinstance(value, np.generic):
        value = value.item()
    return "json", json.dumps(value, sort_keys=True, allow_nan=False).encode()


@dataclass(frozen=True)
class ShardRows:
    """B rows to add.

    Attributes:
        keys: of each row, from `key_of`.
        answers: per row, (B, ...) each: noise, prefix, endpoint, ...
        seen: key of each row's observation.
        observations: per row, (B, ...) each, with names that differ from those of `answers`; stored once per key.
    """

    keys: Sequence[str]
    answers: Mapping[str, Tensor]
    seen: Sequence[str]
    observations: Mapping[str, Tensor]


class CachedRows:
    """Rows in a given order. Their shards are mapped, not read: the system keeps as much of them as it has room for."""

    def __init__(
        self, shards: list[dict[str, Tensor]], rows: Places, observations: Places, keys: tuple[str, ...]
    ) -> None:
        self._shards, self._rows, self._observations, self.keys = shards, rows, observations, keys

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, picked: Iterable[int]) -> dict[str, Tensor]:
        """All tensors of the picked rows, answers and observations, (len(picked), ...) each."""
        index = np.fromiter(picked, np.int64)
        answers = self._gather(self._rows[index], _ANSWER)
        return answers | self._gather(self._observations[index], _OBSERVATION)

    def _gather(self, places: Places, prefix: str) -> dict[str, Tensor]:
        taken: dict[str, Tensor] = {}
        for shard in np.unique(places[:, 0]):
            here = places[:, 0] == shard
            where, rows = torch.from_numpy(np.flatnonzero(here)), torch.from_numpy(places[here, 1])
            for name, tensor in self._shards[shard].items():
                if name.startswith(prefix):
                    empty = torch.empty((len(places), *tensor.shape[1:]), dtype=tensor.dtype)
                    taken.setdefault(name.removeprefix(prefix), empty)[where] = tensor[rows]
        return taken


class TargetCache:
    """Rows of one teacher on one dataset by one recipe, in one folder."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Opens or starts a cache.

        Args:
            folder: made where it is missing.
            identity: what every row depends on and keys do not say: sha256 of teacher and dataset, the recipe.

        Raises:
            BadInput: the folder holds rows of another identity, or a manifest that is none.
        """
        self._folder, self._identity = folder, json.loads(json.dumps(dict(identity), sort_keys=True, allow_nan=False))
        folder.mkdir(parents=True, exist_ok=True)
        self.damaged: tuple[str, ...] = ()  # shards that the manifest lists and that are gone or altered
        self._layout: Layout = {}
        self._forget_rows()
        self.refresh()

    def _forget_rows(self) -> None:
        self._listed: list[dict[str, Any]] = []
        self._shards: list[dict[str, Tensor]] = []
        self._rows: dict[bytes, tuple[int, int, bytes]] = {}  # key -> shard, row, key of its observation
        self._observations: dict[bytes, tuple[int, int]] = {}

    def refresh(self) -> None:
        """Takes in what other processes have added since."""
        listed, self._layout = _read_manifest(self._folder / MANIFEST, self._identity)
        if not {entry["file"] for entry in listed}.issuperset(entry["file"] for entry in self._listed):
            self._forget_rows()
        known, damaged = {entry["file"] for entry in self._listed}, []
        for entry in listed:
            if entry["file"] in known:
                continue
            if _is_whole(self._folder / entry["file"], entry):
                self._index(entry)
            else:
                damaged.append(entry["file"])
        self.damaged = tuple(damaged)

    def _index(self, entry: dict[str, Any]) -> None:
        tensors, number = load_file(self._folder / entry["file"]), len(self._shards)
        seen = _split(tensors[_SEEN])
        for row, key in enumerate(_split(tensors[_OBSERVATION_KEY])):
            self._observations[key] = (number, row)
        for row, key in enumerate(_split(tensors[_KEY])):
            self._rows[key] = (number, row, seen[row])
        self._shards.append(tensors)
        self._listed.append(entry)

    def _has(self, key: bytes) -> bool:
        """A row counts when its observation is there too: that may stand in a shard that was damaged."""
        row = self._rows.get(key)
        return row is not None and row[2] in self._observations

    def __len__(self) -> int:
        return sum(self._has(key) for key in self._rows)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that are not there yet, each once, in their order."""
        self.refresh()
        return [key for key in dict.fromkeys(keys) if not self._has(bytes.fromhex(key))]

    def unseen(self, keys: Iterable[str]) -> list[str]:
        """Those observations that are not there yet, each once, in their order."""
        return [key for key in dict.fromkeys(keys) if bytes.fromhex(key) not in self._observations]

    def add(self, rows: ShardRows) -> int:
        """Writes what is new of `rows` as one shard; returns how many rows that were.

        Raises:
            BadInput: shapes that disagree, numbers that are not finite, a disk that is full. The cache stays as it was.
        """
        _require_rows(rows)
        with _locked(self._folder):
            self.refresh()
            tensors, new = self._new_of(rows)
            if not new:
                return 0
            layout = _layout(tensors)
            if self._layout and layout != self._layout:
                raise BadInput(
                    explain("rows for the cache of targets", f"tensors as in it: {self._layout}", str(layout), _AGAIN)
                )
            self._write(tensors, layout)
        return new

    def _new_of(self, rows: ShardRows) -> tuple[dict[str, Tensor], int]:
        seen = [bytes.fromhex(key) for key in rows.seen]
        first_row: dict[bytes, int] = {}
        for row, key in enumerate(rows.keys):
            first_row.setdefault(bytes.fromhex(key), row)
        fresh = [row for key, row in first_row.items() if not self._has(key)]
        first: dict[bytes, int] = {}
        for row in fresh:
            if seen[row] not in self._observations:
                first.setdefault(seen[row], row)
        picked, unseen = torch.tensor(fresh, dtype=torch.int64), torch.tensor(list(first.values()), dtype=torch.int64)
        tensors = {_ANSWER + name: value[picked] for name, value in rows.answers.items()}
        tensors |= {_OBSERVATION + name: value[unseen] for name, value in rows.observations.items()}
        tensors[_KEY] = _join([bytes.fromhex(rows.keys[row]) for row in fresh])
        tensors[_SEEN] = _join([seen[row] for row in fresh])
        tensors[_OBSERVATION_KEY] = _join(list(first))
        return tensors, len(fresh)

    def _write(self, tensors: dict[str, Tensor], layout: Layout) -> None:
        data = save(tensors)
        sha256 = hashlib.sha256(data).hexdigest()
        counts = {"rows": len(tensors[_KEY]), "observations": len(tensors[_OBSERVATION_KEY]), "bytes": len(data)}
        entry: dict[str, Any] = {"file": f"rows-{sha256}.safetensors", "sha256": sha256, **counts}
        manifest = {
            "schema": SCHEMA,
            "identity": self._identity,
            "layout": layout,
            "shards": [*self._listed, entry],
        }
        try:
            _replace(self._folder / entry["file"], data)
            _replace(self._folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        except OSError as error:
            size = f"room for {len(data)} bytes in {self._folder}"
            todo = f"free space, then {_AGAIN}; the {len(self)} rows there stay good"
            raise BadInput(explain("cannot write cached targets", size, error.strerror or str(error), todo)) from error
        self._layout = layout
        self._index(entry)
        self._sweep()

    def _sweep(self) -> None:
        """Removes what killed runs left: shards that no manifest lists. Called with the lock held."""
        listed = {entry["file"] for entry in self._listed}
        for path in (*self._folder.glob("rows-*.safetensors"), *self._folder.glob(".part-*")):
            if path.name not in listed:
                path.unlink(missing_ok=True)
        self.damaged = ()

    def rows(self, keys: Iterable[str] | None = None) -> CachedRows:
        """The rows of `keys` in their order, or all rows in the order they were added.

        Raises:
            BadInput: one of `keys` is not there.
        """
        wanted = [bytes.fromhex(key) for key in keys] if keys is not None else [k for k in self._rows if self._has(k)]
        gone = sum(not self._has(key) for key in wanted)
        if gone:
            raise BadInput(
                explain("cached targets", f"{len(wanted)} rows in {self._folder}", f"{gone} missing", _AGAIN)
            )
        places = [self._rows[key] for key in wanted]
        rows = np.array([place[:2] for place in places], np.int64).reshape(-1, 2)
        observations = np.array([self._observations[place[2]] for place in places], np.int64).reshape(-1, 2)
        return CachedRows(list(self._shards), rows, observations, tuple(key.hex() for key in wanted))


def _join(keys: list[bytes]) -> Tensor:
    return torch.from_numpy(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32).copy())


def _split(keys: Tensor) -> list[bytes]:
    return [row.tobytes() for row in keys.numpy()]


def _layout(tensors: Mapping[str, Tensor]) -> Layout:
    return {name: [str(tensors[name].dtype), list(tensors[name].shape[1:])] for name in sorted(tensors)}


def _require_rows(rows: ShardRows) -> None:
    count = len(rows.keys)
    named = {
        f"{kind} {name}": value for kind in ("answers", "observations") for name, value in vars(rows)[kind].items()
    }
    lengths = {"seen": len(rows.seen), **{name: len(value) for name, value in named.items()}}
    wrong = {name: length for name, length in lengths.items() if length != count}
    if wrong or set(rows.answers) & set(rows.observations):
        expected = f"{count} rows of every tensor, one per key, and no name both in answers and in observations"
        raise BadInput(
            explain("rows for the cache of targets", expected, str(wrong or "a name in both"), "correct them")
        )
    for name, value in named.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            todo = "look at the teacher: its weights, its statistics, its precision"
            raise BadInput(
                explain("rows for the cache of targets", f"finite numbers in {name}", "NaN or infinity", todo)
            )


def _read_manifest(path: Path, identity: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Layout]:
    """Shards and layout. Raises BadInput: no manifest of ours, or one of another identity."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return [], {}
    table = _Manifest(str(path), parse_json(raw, str(path)))
    table.text("schema", (SCHEMA,))
    found = table.raw("identity", "a table")
    if found != identity:
        names = sorted(set(identity) | set(found if isinstance(found, dict) else ()))
        differ = [n for n in names if not isinstance(found, dict) or found.get(n) != identity.get(n)]
        table.fail("identity", f"that of this run; {', '.join(differ)} differ", found)
    shards = table.raw("shards", "a list of tables")
    if not isinstance(shards, list):
        table.fail("shards", "a list of tables", shards)
    for number, entry in enumerate(shards):
        shard = _Manifest(f"{path}: shards[{number}]", entry)
        if shard.text("file") != f"rows-{shard.sha256('sha256')}.safetensors":
            shard.fail("file", "the name of a shard, after its sha256", entry["file"])
    return shards, dict(table.raw("layout", "a table"))


class _Manifest(JsonTable):
    todo = "delete this folder, or keep the targets of this run in another one"


def _is_whole(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest() == entry["sha256"]
    except OSError:
        return False


def _replace(path: Path, data: bytes) -> None:
    """All of the bytes on the disk under that name, or nothing of them."""
    temporary = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock ends with its process, however that ends."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
