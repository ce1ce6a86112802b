"""The chunk index: of which chunks each file of a release consists. Standard library only, read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from edgevla.errors import BadInput, explain

SCHEMA = "edgevla.chunks/1"
MIN_BYTES = 2 * 1024  # of a chunk that is not the last one of its file
AVERAGE_BYTES = 8 * 1024
MAX_BYTES = 32 * 1024
MAX_INDEX_BYTES = 256 * 1024 * 1024  # 16 GiB, the largest bundle, is two million chunks of some 50 bytes here
MAX_FILES = 4096
HASH_DIGITS = 32  # the first half of SHA-256: finds a chunk again; the file's whole hash in the manifest decides

_HASH = re.compile(r"[0-9a-f]{32}")


class Chunk(NamedTuple):
    """One piece of a file."""

    hash: str  # first 32 hexadecimal digits of its SHA-256
    length: int  # bytes


@dataclass(frozen=True)
class ChunkIndex:
    """Path in the bundle -> its chunks; one after the other they are the file."""

    files: Mapping[str, tuple[Chunk, ...]]

    def chunks(self) -> Iterator[Chunk]:
        """Every chunk, file by file, repetitions too."""
        for path in sorted(self.files):
            yield from self.files[path]

    def hashes(self) -> set[str]:
        """What can be read from a release with this index."""
        return {chunk.hash for chunk in self.chunks()}

    def total_bytes(self) -> int:
        """Bytes of every file."""
        return sum(chunk.length for chunk in self.chunks())


def missing(index: ChunkIndex, there: Collection[str]) -> list[Chunk]:
    """The chunks of `index` whose hash is not `there`, each once, in the order in which files need them."""
    known, wanted = set(there), []
    for chunk in index.chunks():
        if chunk.hash not in known:
            known.add(chunk.hash)
            wanted.append(chunk)
    return wanted


def encode_index(index: ChunkIndex) -> bytes:
    """The index as JSON; the same index is the same bytes."""
    files = {path: [list(chunk) for chunk in chunks] for path, chunks in sorted(index.files.items())}
    return json.dumps({"schema": SCHEMA, "files": files}, separators=(",", ":")).encode()


def parse_index(raw: bytes) -> ChunkIndex:
    """What `encode_index` wrote. Raises BadInput on anything else."""
    if len(raw) > MAX_INDEX_BYTES:
        _refuse(f"{MAX_INDEX_BYTES} bytes at most", f"{len(raw)} bytes")
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        _refuse("UTF-8 JSON", error)
    if not isinstance(data, dict) or set(data) != {"schema", "files"} or data["schema"] != SCHEMA:
        _refuse(f'{{"schema": "{SCHEMA}", "files": ...}}', str(data)[:100])
    files = data["files"]
    if not isinstance(files, dict) or len(files) > MAX_FILES:
        _refuse(f"a table of {MAX_FILES} files at most", str(files)[:100])
    return ChunkIndex({path: _chunks(path, chunks) for path, chunks in files.items()})


def _chunks(path: str, rows: Any) -> tuple[Chunk, ...]:
    if not isinstance(rows, list):
        _refuse(f"a list of chunks for {path[:200]!r}", str(rows)[:100])
    chunks = tuple(_chunk(path, row) for row in rows)
    if any(chunk.length < MIN_BYTES for chunk in chunks[:-1]):
        _refuse(f"{MIN_BYTES} bytes at least in a chunk of {path[:200]!r} before its last", "a shorter one")
    return chunks


def _chunk(path: str, row: Any) -> Chunk:
    digest, length = row if isinstance(row, list) and len(row) == 2 else (None, None)
    whole = type(length) is int and 0 < length <= MAX_BYTES
    if not isinstance(digest, str) or not isinstance(length, int) or not whole or not _HASH.fullmatch(digest):
        _refuse(f"[{HASH_DIGITS} hexadecimal digits, 1 to {MAX_BYTES}] in {path[:200]!r}", str(row)[:100])
    return Chunk(digest, length)


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(items)
    if len(table) != len(items):
        raise ValueError("a key is said twice")
    return table


def _refuse(expected: str, got: object) -> NoReturn:
    raise BadInput(explain("a chunk index is wrong", expected, got, "deploy again; the index is made anew each time"))
