"""Chunks are cut by content: their concatenation is the file, and an edit stays where it was made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevla.deploy.chunks import WINDOW, chunk_hash, chunks_of, cut_ends, index_files, places
from edgevla.deploy.index import AVERAGE_BYTES, MAX_BYTES, MIN_BYTES, ChunkIndex, missing

SIZE = 300_000
MASK = 2**32 - 1


def random_bytes(seed: int, size: int = SIZE) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def as_index(content: bytes) -> ChunkIndex:
    return ChunkIndex({"file": chunks_of(content)})


def moved_bytes(new: bytes, old: bytes) -> int:
    return sum(chunk.length for chunk in missing(as_index(new), as_index(old).hashes()))


def gear(byte: int) -> int:
    return int.from_bytes(hashlib.sha256(b"edgevla gear %d" % byte).digest()[:4], "big")


def cut_ends_byte_by_byte(content: bytes) -> list[int]:
    """The definition, without NumPy: one position after the other."""
    table = [gear(byte) for byte in range(256)]
    ends, start, state = [], 0, 0
    for position, byte in enumerate(content):
        state = ((state << 1) + table[byte]) & MASK
        length = position + 1 - start
        allowed = state < 2**32 // (AVERAGE_BYTES - MIN_BYTES) and length >= MIN_BYTES
        if allowed or length == MAX_BYTES:
            start = position + 1
            ends.append(start)
    return ends if start == len(content) else [*ends, len(content)]


@pytest.mark.parametrize("size", [0, 1, WINDOW, MIN_BYTES, 65_536, 65_537, 200_000])
def test_the_vectorised_cuts_are_those_of_the_definition(size: int) -> None:
    content = random_bytes(size, size)
    assert cut_ends(content) == cut_ends_byte_by_byte(content)


def test_content_without_change_is_cut_at_the_maximum() -> None:
    content = bytes(200_000)
    assert cut_ends(content) == cut_ends_byte_by_byte(content)
    assert [chunk.length for chunk in chunks_of(content)] == [MAX_BYTES] * 6 + [200_000 - 6 * MAX_BYTES]


def test_the_mean_of_a_megabyte_is_near_8_kib_and_no_chunk_is_outside_2_to_32_kib() -> None:
    lengths = [chunk.length for chunk in chunks_of(random_bytes(1, 4_000_000))]
    assert 0.9 * AVERAGE_BYTES < np.mean(lengths) < 1.1 * AVERAGE_BYTES
    assert max(lengths) <= MAX_BYTES
    assert min(lengths[:-1]) >= MIN_BYTES


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.binary(max_size=5000), st.builds(random_bytes, st.integers(0, 2**32), st.integers(0, 120_000))))
def test_the_concatenation_of_the_chunks_is_the_content(content: bytes) -> None:
    chunks, offset = chunks_of(content), 0
    for chunk in chunks:
        assert chunk.hash == chunk_hash(content[offset : offset + chunk.length])
        offset += chunk.length
    assert offset == len(content)


# Behind an edit the cuts are the old ones from the first common one on. The largest of 2,500 random edits changed
# 57 kB of chunks, the median 11 kB; four chunks of the largest size leave room for a rarer one.
FEW_BYTES = 4 * MAX_BYTES


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, SIZE), st.binary(min_size=1, max_size=400))
def test_an_insertion_changes_only_the_chunks_around_it(seed: int, at: int, inserted: bytes) -> None:
    old = random_bytes(seed)
    assert moved_bytes(old[:at] + inserted + old[at:], old) <= FEW_BYTES


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, SIZE), st.integers(1, 3000))
def test_a_deletion_changes_only_the_chunks_around_it(seed: int, at: int, length: int) -> None:
    old = random_bytes(seed)
    assert moved_bytes(old[:at] + old[at + length :], old) <= FEW_BYTES


def test_every_cut_before_an_edit_is_where_it_was() -> None:
    old = random_bytes(5)
    new = old[:150_000] + b"edit" + old[150_000:]
    before = [end for end in cut_ends(old) if end <= 150_000]
    assert cut_ends(new)[: len(before)] == before
    behind = [end + 4 for end in cut_ends(old) if end > 150_000 + FEW_BYTES]
    assert cut_ends(new)[-len(behind) :] == behind


def test_20_rewritten_places_of_one_percent_move_little_more_than_one_percent() -> None:
    old, rng = random_bytes(6, 8_000_000), np.random.default_rng(7)
    new = bytearray(old)
    for at in np.linspace(100_000, 7_800_000, 20).astype(int):
        new[at : at + 4000] = rng.integers(0, 256, 4000, dtype=np.uint8).tobytes()
    assert 80_000 <= moved_bytes(bytes(new), old) <= 80_000 + 20 * 3 * AVERAGE_BYTES


def test_an_index_of_files_finds_each_chunk_again(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    twice = random_bytes(8, 100_000)
    contents = {"empty": b"", "model/a.onnx": twice, "model/b.onnx": b"x" + twice}
    for path, content in contents.items():
        (tmp_path / path).write_bytes(content)
    index = index_files(tmp_path, contents)
    assert index.total_bytes() == 200_001
    assert index.files["empty"] == ()
    for digest, place in places(index).items():
        length = next(chunk.length for chunk in index.chunks() if chunk.hash == digest)
        assert chunk_hash(contents[place.path][place.offset : place.offset + length]) == digest
    assert sum(chunk.length for chunk in missing(index, ())) < 200_001 - 60_000  # the second file is mostly the first
