"""The frame around an archive: bombs, cuts, second frames and other forms of zstd; one block is held, never more."""

import io
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from edgevla.errors import BadInput
from edgevla.trust.zstd_stream import MAX_BLOCK, FrameReader, writer
from tests.edgevla.trust.releases import accepted, compressed, packed_release, untarred

HEAD = bytes.fromhex("28b52ffd0468")  # RFC 8878, 3.1.1: magic, descriptor (checksum alone), window of 8 MiB


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed_release(tmp_path_factory.mktemp("packed"))


def block(kind: int, content: bytes, size: int | None = None, last: bool = False) -> bytes:
    """RFC 8878, 3.1.1.2: 1 bit last, 2 bits kind (0 raw, 1 one byte repeated, 2 compressed), 21 bits size."""
    word = last | kind << 1 | (len(content) if size is None else size) << 3
    return word.to_bytes(3, "little") + content


def read_all(raw: bytes) -> bytes:
    reader = FrameReader(io.BytesIO(raw), "some.tar.zst")
    pieces = []
    while piece := reader.read(1000):
        pieces.append(piece)
    reader.finish()
    return b"".join(pieces)


def refused(raw: bytes) -> str:
    with pytest.raises(BadInput, match=r"some\.tar\.zst is damaged or altered") as caught:
        read_all(raw)
    return str(caught.value)


def test_what_the_writer_wrote_is_read(packed: bytes) -> None:
    for raw in (b"x", bytes(1_000_000), bytes(range(256)) * 2000):
        file = io.BytesIO()
        with writer(file) as stream:
            stream.write(raw)
        assert file.getvalue()[:6] == HEAD
        assert read_all(file.getvalue()) == raw
        assert zstandard.ZstdDecompressor().decompressobj().decompress(file.getvalue()) == raw
    assert read_all(packed) == untarred(packed)


def test_an_archive_cut_anywhere_is_refused(packed: bytes) -> None:
    for length in range(len(packed)):
        with pytest.raises(BadInput):
            accepted(packed[:length])
    accepted(packed)


@pytest.mark.parametrize("more", [b"\0", b"evil", HEAD, zstandard.compress(b"x"), b"\x50\x2a\x4d\x18\x04\0\0\0evil"])
def test_bytes_behind_the_frame_are_refused_even_if_they_are_zstd(packed: bytes, more: bytes) -> None:
    with pytest.raises(BadInput, match="bytes behind the archive"):
        accepted(packed + more)
    assert "bytes behind the archive" in refused(compressed(b"x") + more)


@pytest.mark.parametrize(
    ("changes", "raw"),
    [({"window_log": 24}, b"x"), ({"window_log": 27}, b"x"), ({"window_log": 22}, b"x"), ({"write_checksum": 0}, b"x")],
)
def test_another_form_of_zstd_is_refused(changes: dict[str, int], raw: bytes) -> None:
    assert "another form of zstd" in refused(compressed(raw, **changes))


def test_a_frame_that_says_its_size_or_needs_a_dictionary_is_refused(packed: bytes) -> None:
    assert "another form of zstd" in refused(zstandard.compress(untarred(packed)))
    book = zstandard.ZstdCompressionDict(b"dictionary" * 50)
    assert "another form of zstd" in refused(zstandard.ZstdCompressor(dict_data=book).compress(b"x"))


@pytest.mark.parametrize(
    "raw", [b"", b"\x28\xb5", b"\x1f\x8b\x08\0\0\0\0", b"PK\3\4 zip", b"\x50\x2a\x4d\x18\0\0\0\0" + HEAD, bytes(600)]
)
def test_what_is_no_frame_is_refused(raw: bytes) -> None:
    assert "something else" in refused(raw)


@pytest.mark.parametrize(
    "raw",
    [
        HEAD,
        HEAD + b"\1",
        HEAD + block(3, b"x", last=True),  # reserved
        HEAD + block(0, b"x" * (MAX_BLOCK + 1), last=True),
        HEAD + block(1, b"x", MAX_BLOCK + 1, last=True),
        HEAD + block(0, b"abc", 4, last=True),
        HEAD + block(0, b"abc", last=True),  # no checksum
        HEAD + block(0, b"abc", last=True) + b"\0\0\0\0",  # a wrong one
        HEAD + block(2, b"\xff" * 50, last=True),
        HEAD + block(2, b"", last=True),
        HEAD + block(0, b"abc") + block(1, b"x", 5),  # no last block
    ],
)
def test_damaged_blocks_are_refused(raw: bytes) -> None:
    refused(raw)


def test_blocks_are_read_as_the_standard_has_them() -> None:
    body = block(0, b"abc") + block(1, b"x", 5, last=True)
    whole = b"abcxxxxx"
    reference = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(whole)
    assert read_all(HEAD + body + reference[-4:]) == whole  # the checksum does not depend on the form


@pytest.mark.parametrize("place", ["at the start", "in a file", "behind the end"])
def test_a_bomb_is_refused_with_one_block_in_memory(packed: bytes, place: str) -> None:
    """26 GB of zeros in 800 kB: 4 bytes a block of 128 KiB."""
    bomb = block(1, b"\0", MAX_BLOCK) * 200_000 + block(1, b"\0", 1, last=True) + b"\0\0\0\0"
    tar = untarred(packed)
    cut = {"at the start": 0, "in a file": tar.index(b"graphgraph") + 10, "behind the end": len(tar)}[place]
    raw = HEAD + block(0, tar[:cut]) + bomb
    tracemalloc.start()
    with pytest.raises(BadInput):
        accepted(raw)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4_000_000, f"{most} bytes"


def test_any_bit_of_the_file_turned_is_refused_or_means_the_same(packed: bytes) -> None:
    """Compressed data has spare bits; a frame that decodes to the same archive is the same archive."""
    tar, same = untarred(packed), 0
    for place in range(len(packed)):
        for bit in (0x01, 0x10, 0x80):
            altered = packed[:place] + bytes((packed[place] ^ bit,)) + packed[place + 1 :]
            try:
                accepted(altered)
            except BadInput:
                continue
            assert untarred(altered) == tar
            same += 1
    assert same < len(packed) // 10


def test_a_file_is_read_once_from_front_to_back(tmp_path: Path) -> None:
    raw = packed_release(tmp_path)

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.left = raw

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            piece, self.left = self.left[: min(len(buffer), 7)], self.left[min(len(buffer), 7) :]
            buffer[: len(piece)] = piece
            return len(piece)

    assert len(read_all(io.BufferedReader(Pipe()).read())) > 0
    reader = FrameReader(io.BufferedReader(Pipe()), "a pipe")  # type: ignore[arg-type]
    assert reader.read(10**6)[:10] == b"arm.bundle"
