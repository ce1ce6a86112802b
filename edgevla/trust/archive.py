"""A bundle as one file, NAME.tar.zst: the same folder gives the same bytes, and a reader that takes nothing else.

Order: manifest.json, manifest.sha256, manifest.sig if there is one, then the listed files by name. The reader knows
from the manifest what every further byte of the form must be; signature and manifest are judged before it writes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from edgevla.errors import BadInput, explain
from edgevla.trust import tar_form, zstd_stream
from edgevla.trust.envelope import (
    MANIFEST,
    MANIFEST_SIG,
    MANIFEST_SUM,
    MAX_MANIFEST_BYTES,
    Envelope,
    FileEntry,
    parse_envelope,
    sum_line,
)
from edgevla.trust.files import sync_folder
from edgevla.trust.folder import BLOCK, Head, check_listing, match_file, open_plain, read_head
from edgevla.trust.keys import SIGNATURE_BYTES
from edgevla.trust.store import Check
from edgevla.trust.zstd_stream import MAX_BLOCK, FrameReader

SUFFIX = ".tar.zst"


def pack(folder: Path, dest: Path) -> Envelope:
    """Write the bundle in `folder` to `dest`, in place of an older archive; every hash is checked on the way.

    Raises BadInput, and then nothing at `dest` has changed. Raises OSError.
    """
    root = folder.resolve()
    if not dest.name.endswith(SUFFIX):
        raise BadInput(explain("an archive needs its ending", f"NAME{SUFFIX}", dest.name, "rename -o"))
    head = read_head(root)
    envelope = parse_envelope(head.manifest)
    check_listing(root, envelope.files)
    handle, part = tempfile.mkstemp(prefix=f".{dest.name}.", dir=dest.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with zstd_stream.writer(file) as stream:
                for piece in _pieces(root, head, envelope):
                    stream.write(piece)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, dest)
    except BaseException:  # a Ctrl-C too
        os.unlink(part)
        raise
    sync_folder(dest.parent)
    return envelope


def unpack(archive: Path, dest: Path, check: Check) -> Envelope:
    """Write the bundle in `archive` to the folder `dest`, which must not be there yet; its parent must.

    `check` judges manifest.json and manifest.sig (`TrustStore.check`, or `unsigned` where nothing is pinned) before
    anything is written. Raises BadInput, OSError, and then nothing is left.
    """
    dest = dest.absolute()
    if os.path.lexists(dest):
        raise BadInput(explain(f"{dest} is in the way", "no folder yet", "one that is there", "choose another path"))
    with archive.open("rb") as file:
        contents = Contents(FrameReader(file, archive.name), check)
        require_space(dest.parent, contents.envelope.total_bytes)
        staging = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
        try:
            contents.write(staging)
            os.rename(staging, dest)
        except BaseException:  # a Ctrl-C too
            shutil.rmtree(staging, ignore_errors=True)
            raise
    sync_folder(dest.parent)
    return contents.envelope


def inspect(archive: Path, check: Check) -> Envelope:
    """Read the whole archive as `unpack` does, and write nothing. Raises BadInput, OSError."""
    with archive.open("rb") as file:
        return inspect_stream(file, archive.name, check)


def inspect_stream(file: BinaryIO, where: str, check: Check) -> Envelope:
    """`inspect` of an open file. Raises BadInput, OSError."""
    contents = Contents(FrameReader(file, where), check)
    for _, blocks in contents.files():
        for _ in blocks:
            pass
    return contents.envelope


def read_envelope(archive: Path, check: Check) -> Envelope:
    """Only what stands in front: judged, but the files behind it are not read. Raises BadInput, OSError."""
    with archive.open("rb") as file:
        return Contents(FrameReader(file, archive.name), check).envelope


def unsigned(manifest_raw: bytes, signature: bytes | None) -> Envelope:
    """A `Check` that asks for no signature: for the workstation, never for a robot. Raises BadInput."""
    del signature
    return parse_envelope(manifest_raw)


def _pieces(root: Path, head: Head, envelope: Envelope) -> Iterator[bytes]:
    """The whole tar stream."""
    top = envelope.name + tar_form.MANIFEST_ROOT
    heads = [(MANIFEST, head.manifest), (MANIFEST_SUM, sum_line(head.manifest))]
    if head.signature is not None:
        heads.append((MANIFEST_SIG, head.signature))
    for name, raw in heads:
        yield tar_form.header(top + name, len(raw)) + tar_form.padded(raw)
    for name, entry in sorted(envelope.files.items()):
        yield tar_form.header(top + name, entry.bytes)
        digest, size = hashlib.sha256(), 0
        with os.fdopen(open_plain(root, name), "rb") as file:
            while size <= entry.bytes and (block := file.read(min(BLOCK, entry.bytes + 1 - size))):
                digest.update(block)
                size += len(block)
                yield block
        match_file(root, name, entry, size, digest.hexdigest())
        yield bytes(-size % tar_form.BLOCK)
    yield tar_form.END


class Stream(Protocol):
    """A tar stream from outside, piece by piece (`FrameReader`)."""

    def read(self, count: int) -> bytes: ...
    def finish(self) -> None: ...
    def refuse(self, expected: str, got: object) -> NoReturn: ...


class Contents:
    """An archive from outside: its head is read and judged here, its files by `files`. Every fault is one BadInput."""

    def __init__(self, stream: Stream, check: Check) -> None:
        self._stream = stream
        self._ahead = b""  # the header behind the head, where it was not that of a signature
        first = tar_form.first_entry(block := self._exactly(tar_form.BLOCK))
        if first is None or first[1] > MAX_MANIFEST_BYTES:
            self._refuse(f"NAME.bundle/{MANIFEST} first", tar_form.describe(block, ""))
        self._top = first[0] + tar_form.MANIFEST_ROOT
        raw = self._content(first[1])
        if self._small(MANIFEST_SUM, len(sum_line(raw))) != sum_line(raw):
            self._refuse(f"the sha256 of {MANIFEST} in {MANIFEST_SUM}", "another")
        self.head = Head(raw, self._small(MANIFEST_SIG, SIGNATURE_BYTES, optional=True))
        self.envelope = check(raw, self.head.signature)
        if self.envelope.name != first[0]:
            self._refuse(f"the folder {self.envelope.name}.bundle", f"{first[0]}.bundle")

    def files(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Every file with its content, which must be read to its end before the next; then the end is checked."""
        for name, entry in sorted(self.envelope.files.items()):
            self._header(name, entry.bytes)
            yield name, self._blocks(name, entry)
        if (end := self._next(len(tar_form.END))) != tar_form.END:
            self._refuse("the end of the archive", tar_form.describe(end, ""))
        self._stream.finish()

    def write(self, root: Path) -> None:
        """Every file below `root`, an empty folder of ours; on the disk when this returns."""
        _write(root / MANIFEST, [self.head.manifest])
        _write(root / MANIFEST_SUM, [sum_line(self.head.manifest)])
        if self.head.signature is not None:
            _write(root / MANIFEST_SIG, [self.head.signature])
        for name, blocks in self.files():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            _write(root / name, blocks)
        for folder, _, _ in os.walk(root):
            os.chmod(folder, 0o755)  # the service's user reads them, whatever the umask
            sync_folder(Path(folder))

    def _header(self, name: str, size: int) -> None:
        expected = tar_form.header(self._top + name, size)
        if (found := self._next(tar_form.BLOCK)) == expected[: tar_form.BLOCK]:
            found += self._exactly(len(expected) - tar_form.BLOCK)
        if found != expected:
            self._refuse(f"the file {self._top}{name}, {size} bytes", tar_form.describe(found, self._top + name))

    def _small(self, name: str, size: int, optional: bool = False) -> bytes | None:
        self._ahead = self._next(tar_form.BLOCK)
        if optional and self._ahead != tar_form.header(self._top + name, size):
            return None  # the header of the first file, or a fault that is told there
        self._header(name, size)
        return self._content(size)

    def _content(self, size: int) -> bytes:
        raw = self._exactly(size)
        self._padding(size)
        return raw

    def _blocks(self, name: str, entry: FileEntry) -> Iterator[bytes]:
        digest, left = hashlib.sha256(), entry.bytes
        while left:
            piece = self._exactly(min(left, MAX_BLOCK))
            digest.update(piece)
            left -= len(piece)
            yield piece
        self._padding(entry.bytes)
        if digest.hexdigest() != entry.sha256:
            self._refuse(f"{name}: sha256 {entry.sha256[:16]}...", f"{digest.hexdigest()[:16]}...")

    def _padding(self, size: int) -> None:
        if any(self._exactly(-size % tar_form.BLOCK)):
            self._refuse("zeros behind a file", "other bytes")

    def _next(self, count: int) -> bytes:
        """As `_exactly`, beginning with a header that was read ahead."""
        ahead, self._ahead = self._ahead, b""
        return ahead + self._exactly(count - len(ahead))

    def _exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = self._stream.read(count)
            if not piece:
                self._refuse("a whole archive", "it ends too soon")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _refuse(self, expected: str, got: object) -> NoReturn:
        self._stream.refuse(expected, got)


def _write(path: Path, blocks: Iterator[bytes] | list[bytes]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def require_space(folder: Path, needed_bytes: int) -> None:
    """The disk of `folder` has room for so much. Raises BadInput."""
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        todo = "free space on that disk, or choose another one"
        raise BadInput(explain(f"{folder}: the disk is full", f"{needed_bytes} bytes free", free_bytes, todo))
