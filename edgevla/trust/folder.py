"""A bundle's folder, read defensively: nothing is used before its size and sha256 are those of the manifest.

A file missing, extra, truncated, grown, altered, linked or outside the folder is one BadInput that names it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from edgevla.errors import BadInput, explain
from edgevla.trust.envelope import (
    HEAD,
    MANIFEST,
    MANIFEST_SIG,
    MANIFEST_SUM,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    FileEntry,
    sum_line,
)
from edgevla.trust.keys import SIGNATURE_BYTES
from edgevla.trust.words import shown

BLOCK = 1024 * 1024  # bytes read at a time while hashing
AGAIN = "copy the bundle again, or export it again"


@dataclass(frozen=True)
class Head:
    """What stands in front of a bundle's files."""

    manifest: bytes
    signature: bytes | None  # None: unsigned


def read_head(root: Path) -> Head:
    """manifest.json, which manifest.sha256 confirms, and manifest.sig if there is one. Raises BadInput."""
    raw = read_limited(root, MANIFEST, MAX_MANIFEST_BYTES, exact=False)
    line, expected = read_limited(root, MANIFEST_SUM, 256, exact=False), sum_line(raw)
    if line != expected:
        refuse(root, MANIFEST, f"the sha256 in {MANIFEST_SUM}, {_shown(line)}", _shown(expected))
    if not os.path.lexists(root / MANIFEST_SIG):
        return Head(raw, None)
    signature = read_limited(root, MANIFEST_SIG, SIGNATURE_BYTES)
    if len(signature) != SIGNATURE_BYTES:
        refuse(root, MANIFEST_SIG, f"{SIGNATURE_BYTES} bytes", f"{len(signature)} bytes")
    return Head(raw, signature)


def check_folder(root: Path, files: Mapping[str, FileEntry]) -> None:
    """Every listed file is there with its size and sha256, and nothing else is. Raises BadInput."""
    check_listing(root, files)
    for name, entry in files.items():
        check_file(root, name, entry)


def check_listing(root: Path, files: Mapping[str, FileEntry]) -> None:
    """The folder holds exactly the listed files, all of them plain. Raises BadInput."""
    listed = {*files, MANIFEST, MANIFEST_SUM}
    found = _walk(root, {str(folder) for name in listed for folder in PurePosixPath(name).parents})
    for name in sorted(listed - found):
        refuse(root, name, "a file listed in the manifest", "it is missing")
    for name in sorted(found - listed - {MANIFEST_SIG}):
        refuse(root, name, "only files listed in the manifest", "an extra file", "remove it, or " + AGAIN)


def check_file(root: Path, name: str, entry: FileEntry) -> None:
    """Size and sha256 of one file are those of its entry. Raises BadInput."""
    match_file(root, name, entry, *_digest(root, name, entry))


def read_file(root: Path, name: str, entry: FileEntry) -> bytes:
    """Bytes of one file, hashed before they are handed out. Raises BadInput."""
    raw = read_limited(root, name, entry.bytes)
    match_file(root, name, entry, len(raw), hashlib.sha256(raw).hexdigest())
    return raw


def match_file(root: Path, name: str, entry: FileEntry, size: int, sha256: str) -> None:
    """What was found is what the entry says. Raises BadInput."""
    if size != entry.bytes:
        refuse(root, name, f"{entry.bytes} bytes", f"{size} bytes" if size < entry.bytes else "more")
    if sha256 != entry.sha256:
        refuse(root, name, f"sha256 {entry.sha256[:16]}...", f"{sha256[:16]}...")


def open_plain(root: Path, name: str) -> int:
    """File descriptor of a plain file of the bundle, symbolic links refused. Raises BadInput."""
    try:
        handle = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        refuse(root, name, "a file of the bundle", "it is missing")
    except OSError as error:
        refuse(root, name, "a plain, readable file", error.strerror)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        refuse(root, name, "a plain file", "a special file")
    return handle


def read_limited(root: Path, name: str, limit: int, exact: bool = True) -> bytes:
    """A file of at most `limit` bytes. Raises BadInput."""
    with os.fdopen(open_plain(root, name), "rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        refuse(root, name, f"{limit} bytes{'' if exact else ' at most'}", "more")
    return raw


def refuse(root: Path, name: str, expected: str, got: object, todo: str = AGAIN) -> NoReturn:
    """The one error about a file of a bundle."""
    raise BadInput(explain(f"{shown(root.name)}/{shown(name)}: the bundle is damaged or altered", expected, got, todo))


def _walk(root: Path, needed: set[str]) -> set[str]:
    """Relative paths of all files; anything that is neither a plain file nor a needed folder is refused."""
    found: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            relative = path.relative_to(root).as_posix()
            if stat.S_ISREG(mode):
                found.add(relative)
            elif not stat.S_ISDIR(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "a special file"
                refuse(root, relative, "a plain file", kind)
            elif relative not in needed:
                todo = "remove it, or " + AGAIN
                refuse(root, relative, "only folders of files listed in the manifest", "an extra folder", todo)
        if len(found) > MAX_FILES + len(HEAD):
            refuse(root, ".", f"{MAX_FILES} files at most", "more")
    return found


def _raise(error: OSError) -> NoReturn:
    raise BadInput(explain("a folder of the bundle cannot be read", "a readable folder", error, AGAIN))


def _digest(root: Path, name: str, entry: FileEntry) -> tuple[int, str]:
    """Size and sha256, reading no further than one byte past the declared size."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(open_plain(root, name), "rb", buffering=0) as file:
        while size <= entry.bytes and (block := file.read(min(BLOCK, entry.bytes + 1 - size))):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _shown(line: bytes) -> str:
    return line[:16].decode("ascii", "replace") + "..."
