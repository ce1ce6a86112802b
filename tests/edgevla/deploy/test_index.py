"""The chunk index is read strictly: what is not exactly one is refused in one sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevla.deploy import index as module
from edgevla.deploy.index import MAX_BYTES, Chunk, ChunkIndex, encode_index, missing, parse_index
from edgevla.errors import BadInput

A, B, C = "a" * 32, "b" * 32, "c" * 32
SMALL = ChunkIndex({"model/head.onnx": (Chunk(A, 8192), Chunk(B, 5)), "empty": (), "stats.json": (Chunk(B, 5),)})


def test_the_bytes_are_stable() -> None:
    said = '{"schema":"edgevla.chunks/1","files":{"empty":[],"model/head.onnx":[["%s",8192],["%s",5]],"stats.json":'
    assert encode_index(SMALL) == (said % (A, B) + f'[["{B}",5]]}}}}').encode()


def test_what_is_encoded_is_parsed() -> None:
    assert parse_index(encode_index(SMALL)) == SMALL


def test_a_chunk_that_stands_twice_is_missing_once() -> None:
    assert missing(SMALL, ()) == [Chunk(A, 8192), Chunk(B, 5)]
    assert missing(SMALL, {A}) == [Chunk(B, 5)]
    assert missing(SMALL, {A, B, C}) == []


def row(*chunks: object) -> bytes:
    return json.dumps({"schema": "edgevla.chunks/1", "files": {"f": list(chunks)}}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"schema":"edgevla.chunks/2","files":{}}',
        b'{"schema":"edgevla.chunks/1"}',
        b'{"schema":"edgevla.chunks/1","files":[]}',
        b'{"schema":"edgevla.chunks/1","files":{},"more":1}',
        b'{"schema":"edgevla.chunks/1","files":{"f":[],"f":[]}}',
        b'{"schema":"edgevla.chunks/1","files":{"f":{}}}',
        row([A]),
        row([A, 0]),
        row([A, -1]),
        row([A, True]),
        row([A, 1.0]),
        row([A, MAX_BYTES + 1]),
        row([A.upper(), 5]),
        row([A[:-1], 5]),
        row([A + "\n", 5]),
        row([5, A]),
        row([A, 5], [B, 8192]),  # only the last one may be short
    ],
)
def test_what_is_no_index_is_refused(raw: bytes) -> None:
    with pytest.raises(BadInput, match="a chunk index is wrong"):
        parse_index(raw)


def test_too_many_files_and_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    many = json.dumps({"schema": "edgevla.chunks/1", "files": {str(n): [] for n in range(4097)}}).encode()
    with pytest.raises(BadInput, match="4096 files at most"):
        parse_index(many)
    monkeypatch.setattr(module, "MAX_INDEX_BYTES", 100)
    with pytest.raises(BadInput, match="100 bytes at most"):
        parse_index(many)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_a_changed_byte_is_refused_or_another_index_never_another_error(at: int, noise: bytes) -> None:
    raw = encode_index(SMALL)
    spoiled = raw[:at] + noise + raw[at + len(noise) :]
    try:
        parse_index(spoiled)
    except BadInput:
        return
