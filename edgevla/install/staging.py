"""A release on its way in: files put together from chunks, those of the client and those of installed releases.

    staging/ID/parts/000000 ...   files of the bundle in the order of their names, at full size, chunk by chunk
    staging/ID/index.json         of which chunks each file consists
    staging/ID/release/bundle/    complete files, hashes verified
    staging/ID/release/venv/      see `edgevla.install.unpack`

Which chunks are there is never written down: a part says so itself, by its hash. So whatever a power cut or a lost
connection leaves is either right or fetched again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from edgevla.deploy.index import HASH_DIGITS, MAX_INDEX_BYTES, ChunkIndex, parse_index
from edgevla.errors import BadInput, explain
from edgevla.install.admission import bytes_to_come, require_space
from edgevla.install.durable import discard_folder, make_folders, sync_disk
from edgevla.install.layout import Layout
from edgevla.trust.envelope import MANIFEST, MANIFEST_SIG, MANIFEST_SUM, Envelope, sum_line

MAX_MISSING = 250_000  # hashes in one answer: 9 MB of its header
_BLOCK = 1024 * 1024
_AGAIN = "deploy again; what arrived is kept"


class Place(NamedTuple):
    """Where a chunk belongs."""

    file: int  # index in the sorted paths
    offset: int
    length: int


class Staging:
    """One release in staging. The caller holds the installer's lock."""

    def __init__(self, layout: Layout, envelope: Envelope, index_raw: bytes) -> None:
        """Raises BadInput when the index is not that of this bundle's files."""
        self._layout, self.envelope, self._index_raw = layout, envelope, index_raw
        self.folder = layout.staged(envelope.id)
        self.bundle = self.folder / "release" / "bundle"
        self._paths = sorted(envelope.files)
        self._places = _places(envelope, parse_index(index_raw), self._paths)
        self._there: set[str] = set()

    def begin(self, manifest: bytes, signature: bytes | None) -> None:
        """Make room, keep what an interrupted transfer left, take what installed releases have.

        Raises BadInput when the disk has no room, OSError.
        """
        _discard_others(self._layout, self.envelope.id)
        resumed = self.folder.is_dir()
        make_folders(self.folder / "parts")
        require_space(self.folder, bytes_to_come(self.envelope) - _allocated(self.folder), len(self._paths))
        self._take_back()
        for number, path in enumerate(self._paths):
            with open(self._part(number), "ab") as file:
                file.truncate(self.envelope.files[path].bytes)
        if resumed:
            self._look()
        self._copy_installed()
        write_head(self.bundle, manifest, signature)
        (self.folder / "index.json").write_bytes(self._index_raw)

    def missing(self) -> list[str]:
        """Hashes of the chunks that are still needed, MAX_MISSING at most, in the order of the files."""
        return [name for name in self._places if name not in self._there][:MAX_MISSING]

    def store(self, payload: bytes, lengths: Sequence[int]) -> int:
        """Put chunks where they belong; returns how many. Raises BadInput on one that nobody needs, OSError."""
        if sum(lengths) != len(payload):
            _refuse("chunks", f"{sum(lengths)} bytes", len(payload))
        start = 0
        for length in lengths:
            self._put(payload[start : start + length])
            start += length
        return len(lengths)

    def assemble(self) -> int:
        """Verify every file and put it in its place; returns the number of bytes. Raises BadInput, OSError."""
        for number, path in enumerate(self._paths):
            entry, part = self.envelope.files[path], self._part(number)
            if (found := _sha256(part)) != (entry.bytes, entry.sha256):
                part.unlink(missing_ok=True)
                _refuse(path, f"{entry.bytes} bytes, sha256 {entry.sha256[:16]}...", f"{found[0]}, {found[1][:16]}...")
        for number, path in enumerate(self._paths):
            dest = self.bundle / path
            dest.parent.mkdir(parents=True, exist_ok=True)
            self._part(number).chmod(0o644)
            self._part(number).rename(dest)
        sync_disk(self.folder)
        return self.envelope.total_bytes

    def _part(self, number: int) -> Path:
        return self.folder / "parts" / f"{number:06d}"

    def _take_back(self) -> None:
        """Files that were complete before an install was interrupted are parts again."""
        discard_folder(self.folder / "release" / "venv", self._layout.waste)
        for number, path in enumerate(self._paths):
            if (self.bundle / path).is_file():
                (self.bundle / path).rename(self._part(number))
        discard_folder(self.folder / "release", self._layout.waste)

    def _look(self) -> None:
        """Which chunks of an interrupted transfer are there."""
        for name, places in self._places.items():
            if all(_hash(_read(self._part(p.file), p.offset, p.length)) == name for p in places):
                self._there.add(name)

    def _copy_installed(self) -> None:
        """Chunks of installed releases, by the index that was kept; each is hashed before it counts."""
        for release_id in self._layout.releases_there():
            for name, path, offset, length in _installed_chunks(self._layout, release_id):
                if name in self._places and name not in self._there:
                    content = _read(path, offset, length)
                    if _hash(content) == name:
                        self._put(content)

    def _put(self, content: bytes) -> None:
        name = _hash(content)
        places = self._places.get(name)
        if places is None or places[0].length != len(content):
            _refuse("a chunk", "one of this bundle", f"{len(content)} bytes with sha256 {name[:16]}...")
        if name in self._there:
            return
        for place in places:
            with open(self._part(place.file), "r+b", buffering=0) as file:
                if os.pwrite(file.fileno(), content, place.offset) != len(content):
                    raise OSError(28, os.strerror(28), str(self._part(place.file)))
        self._there.add(name)


def write_head(bundle: Path, manifest: bytes, signature: bytes | None) -> None:
    """manifest.json, manifest.sha256 and manifest.sig in a new bundle folder."""
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / MANIFEST).write_bytes(manifest)
    (bundle / MANIFEST_SUM).write_bytes(sum_line(manifest))
    if signature is not None:
        (bundle / MANIFEST_SIG).write_bytes(signature)


def discard_staged(layout: Layout, release_id: str) -> None:
    """Nothing is left of it in staging."""
    discard_folder(layout.staged(release_id), layout.waste)


def _discard_others(layout: Layout, release_id: str) -> None:
    """One release at a time is on its way: robots have small disks."""
    for entry in sorted(layout.staging.iterdir()):
        if entry.name != release_id and entry != layout.waste:
            discard_folder(entry, layout.waste)


def _places(envelope: Envelope, index: ChunkIndex, paths: list[str]) -> dict[str, list[Place]]:
    """Hash -> where that chunk belongs, in the order of the files. Raises BadInput."""
    if set(index.files) != set(paths):
        odd = sorted(set(index.files) ^ set(paths))[0]
        _refuse("the chunk index", "the files of the manifest", f"another list of files: {odd[:100]}")
    places: dict[str, list[Place]] = {}
    for number, path in enumerate(paths):
        offset = 0
        for chunk in index.files[path]:
            places.setdefault(chunk.hash, []).append(Place(number, offset, chunk.length))
            offset += chunk.length
        if offset != envelope.files[path].bytes:
            _refuse(f"the chunk index of {path}", f"{envelope.files[path].bytes} bytes", offset)
    return places


def _installed_chunks(layout: Layout, release_id: str) -> Iterator[tuple[str, Path, int, int]]:
    """(hash, file, offset, length); none where no index was kept or it cannot be read."""
    try:
        with layout.chunk_index(release_id).open("rb") as file:
            index = parse_index(file.read(MAX_INDEX_BYTES + 1))
    except (OSError, BadInput):
        return
    for path, chunks in sorted(index.files.items()):
        offset = 0
        for chunk in chunks:
            yield chunk.hash, layout.release(release_id) / "bundle" / path, offset, chunk.length
            offset += chunk.length


def _read(path: Path, offset: int, length: int) -> bytes:
    """Those bytes, fewer where the file has fewer or cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)
    except OSError:
        return b""


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:HASH_DIGITS]


def _sha256(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        return 0, "nothing"
    return size, digest.hexdigest()


def _allocated(folder: Path) -> int:
    """Bytes that its files take already: a part that is not filled yet takes none."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _refuse(what: str, expected: object, got: object) -> NoReturn:
    raise BadInput(explain(f"{what}: not what the signed manifest says", expected, got, _AGAIN))
