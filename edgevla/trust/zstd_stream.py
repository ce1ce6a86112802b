"""One zstd frame, block by block: the writer's form is fixed, and the reader holds one block (128 KiB) at most.

Frame format: RFC 8878, section 3.1. A block is handed to the library only when its header is sound, so that neither a
bomb nor a second frame nor bytes behind the end ever reach it.
"""

from __future__ import annotations

from typing import Any, BinaryIO, NoReturn

from edgevla.errors import BadInput, explain

LEVEL = 10
WINDOW_LOG = 23  # 8 MiB: what the reader must hold
MAX_BLOCK = 128 * 1024

_MAGIC = bytes.fromhex("28b52ffd")
_DESCRIPTOR = 0x04  # a checksum; no dictionary, no content size, not a single segment
_WINDOW = (WINDOW_LOG - 10) << 3
_RAW, _RLE, _COMPRESSED = 0, 1, 2
_CHECKSUM_BYTES = 4
_TODO = "get the archive again from where it was made; `edgevla bundle pack` writes one"


def writer(file: BinaryIO) -> Any:
    """What is written to it goes into `file` as one frame; the same bytes give the same frame. Close it to end it."""
    import zstandard

    form = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW_LOG, write_checksum=1, write_content_size=0, write_dict_id=0, threads=0
    )
    return zstandard.ZstdCompressor(compression_params=form).stream_writer(file, closefd=False)


class FrameReader:
    """Reads such a frame. Every fault is one BadInput naming `where`."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        import zstandard

        self._file, self._where = file, where
        self._fault: type[Exception] = zstandard.ZstdError
        self._decoder = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG).decompressobj()
        self._held = b""  # decoded and not read yet
        self._last = False
        head = file.read(6)
        if head != _MAGIC + bytes((_DESCRIPTOR, _WINDOW)):
            got = "another form of zstd" if head.startswith(_MAGIC) else "something else"
            self.refuse("a .tar.zst that edgevla wrote", got)
        self._decoded(head)

    def read(self, count: int) -> bytes:
        """At most `count` bytes, one at least; none only at the end of the frame."""
        while not self._held and not self._last:
            self._held = self._block()
        piece, self._held = self._held[:count], self._held[count:]
        return piece

    def finish(self) -> None:
        """Nothing is left, neither in the frame nor behind it."""
        if self.read(1):
            self.refuse("the end of the archive", "more data in it")
        if self._file.read(1):
            self.refuse("the end of the file", "bytes behind the archive")

    def refuse(self, expected: str, got: object) -> NoReturn:
        raise BadInput(explain(f"{self._where} is damaged or altered", expected, got, _TODO))

    def _block(self) -> bytes:
        head = self._take(3)
        word = int.from_bytes(head, "little")
        self._last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
        if kind not in (_RAW, _RLE, _COMPRESSED) or size > MAX_BLOCK:
            self.refuse("zstd data", "a damaged block")
        decoded = self._decoded(head + self._take(1 if kind == _RLE else size))
        if self._last:
            decoded += self._decoded(self._take(_CHECKSUM_BYTES))
            if not self._decoder.eof:
                self.refuse("the end of the zstd frame", "more of it")
        return decoded

    def _take(self, count: int) -> bytes:
        raw = self._file.read(count)
        if len(raw) != count:
            self.refuse("a whole archive", "the file ends too soon")
        return raw

    def _decoded(self, raw: bytes) -> bytes:
        try:
            return bytes(self._decoder.decompress(raw))
        except self._fault:
            self.refuse("zstd data with the right checksum", "damaged data")
