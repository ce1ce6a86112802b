"""Content-defined chunking: where a file is cut depends on the 32 bytes before the cut and on nothing else.

So an insertion moves no cut behind it, and a robot that has an older release needs only the chunks that changed.
The hash is a gear hash, h[i] = sum over k < 32 of GEAR[byte[i - k]] << k modulo 2^32 (Xia et al., FastCDC, 2016),
for every position at once: a window of 2n bytes is a window of n bytes plus the one before it, shifted by n.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgevla.deploy.index import AVERAGE_BYTES, HASH_DIGITS, MAX_BYTES, MIN_BYTES, Chunk, ChunkIndex

WINDOW = 32  # bytes, one per bit of the hash
_BLOCK = 64 * 1024  # positions at a time: the working arrays stay in the second-level cache
# A cut is possible where the hash is below this: on average AVERAGE_BYTES with the first MIN_BYTES left out.
_THRESHOLD = np.uint32(2**32 // (AVERAGE_BYTES - MIN_BYTES))
_GEAR = np.array(
    [int.from_bytes(hashlib.sha256(b"edgevla gear %d" % byte).digest()[:4], "big") for byte in range(256)], np.uint32
)


@dataclass(frozen=True)
class Place:
    """Where a chunk can be read on this machine."""

    path: str  # in the bundle
    offset: int  # bytes


def chunk_hash(content: bytes | memoryview) -> str:
    """Name of a chunk: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:HASH_DIGITS]


def cut_ends(content: bytes | memoryview | mmap.mmap) -> list[int]:
    """End of each chunk, ascending, the last one the length of `content`; empty for empty content."""
    size, ends, start = len(content), [], 0
    for cut in _candidates(content):
        while cut - start > MAX_BYTES:
            start += MAX_BYTES
            ends.append(start)
        if cut - start >= MIN_BYTES:
            start = cut
            ends.append(start)
    while size - start > MAX_BYTES:
        start += MAX_BYTES
        ends.append(start)
    return [*ends, size] if size > start else ends


def chunks_of(content: bytes | memoryview) -> tuple[Chunk, ...]:
    """The chunks of `content`; their concatenation is `content`."""
    ends = cut_ends(content)
    return tuple(
        Chunk(chunk_hash(content[start:end]), end - start) for start, end in zip([0, *ends], ends, strict=False)
    )


def index_files(folder: Path, paths: Iterable[str]) -> ChunkIndex:
    """The index of these files of `folder`. Raises OSError."""
    return ChunkIndex({path: _chunks_of_file(folder / path) for path in sorted(paths)})


def places(index: ChunkIndex) -> Mapping[str, Place]:
    """Hash -> the first place where that chunk stands."""
    found: dict[str, Place] = {}
    for path, chunks in sorted(index.files.items()):
        offset = 0
        for chunk in chunks:
            found.setdefault(chunk.hash, Place(path, offset))
            offset += chunk.length
    return found


def _chunks_of_file(path: Path) -> tuple[Chunk, ...]:
    with path.open("rb") as file:
        if path.stat().st_size == 0:  # cannot be mapped
            return ()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            return chunks_of(content)


def _candidates(content: bytes | memoryview | mmap.mmap) -> Iterator[int]:
    """Ends at which the content allows a cut, ascending. The first MIN_BYTES never have one, so a short window there
    does not matter."""
    octets = np.frombuffer(content, np.uint8)
    hashes = np.empty(_BLOCK + WINDOW - 1, np.uint32)
    shifted = np.empty_like(hashes)
    for start in range(0, len(octets), _BLOCK):
        before = max(0, start - WINDOW + 1)
        block = octets[before : start + _BLOCK]
        view = hashes[: len(block)]
        np.take(_GEAR, block, out=view, mode="clip")  # "raise" would buffer; a byte is never out of range
        for width in (1, 2, 4, 8, 16):
            part = shifted[: max(0, len(block) - width)]
            np.left_shift(view[: len(part)], np.uint32(width), out=part)
            view[width:] += part
        below = np.flatnonzero(view[start - before :] < _THRESHOLD)
        yield from (below + (start + 1)).tolist()
