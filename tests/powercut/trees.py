"""What lies in an image: its paths, its inodes, its digest. What a ground's folders are is found out once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

from tests.powercut.model import ROOT, Disk, Ground, Image, bytes_of, image, passed_over

_GROUND_EVERY = 128  # operations between two grounds
_NOTHING: frozenset[str] = frozenset()
_DEEPEST = 2  # names in a path that `leave_out` may name


class Trees:
    """Reads images of one disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._hashes: dict[tuple[int, tuple[int, ...]], str] = {}
        self._grounds: dict[int, Ground] = {}

    def image(self, count: int, lost: Collection[int] = (), torn: int = -1) -> Image:
        """The first `count` operations but the lost ones."""
        start = min(lost, default=count) // _GROUND_EVERY * _GROUND_EVERY
        kept = (index for index in range(start, count) if index not in lost)
        return image(self.disk, kept, torn, self._ground(start))

    def _ground(self, count: int) -> Ground:
        if count not in self._grounds:
            below = max((one for one in self._grounds if one < count), default=0)
            start = self._grounds.get(below)
            whole = image(self.disk, range(below, count), ground=start)
            self._grounds[count] = Ground(Image(whole.folders, whole.content))
        return self._grounds[count]

    def reachable(self, found: Image, top: int = ROOT, leave_out: frozenset[str] = _NOTHING) -> set[int]:
        """Inodes below a folder that `leave_out` does not pass over, see `passed_over`."""
        return self._below(found, top, leave_out, "")

    def _below(self, found: Image, folder: int, leave_out: frozenset[str], above: str) -> set[int]:
        shared = found.ground if not leave_out and folder not in found.dirty else None
        if shared is not None and folder in shared.below:
            return {*shared.below[folder]}
        seen = {folder}
        for name, inode in found.folders.get(folder, {}).items():
            path = f"{above}{name}"
            if not (leave_out and passed_over(path, leave_out)):
                seen |= self._below(found, inode, _further(path, leave_out), f"{path}/")
        if shared is not None:
            shared.below[folder] = frozenset(seen)
        return seen

    def walk(self, found: Image, top: int) -> Iterator[tuple[str, int]]:
        """(path, inode), folders before what is in them, sorted."""
        for name, inode in sorted(found.folders.get(top, {}).items()):
            yield name, inode
            if self.disk.nodes[inode].kind == "folder":
                for path, below in self.walk(found, inode):
                    yield f"{name}/{path}", below

    def digest(self, found: Image, top: int, leave_out: frozenset[str] = _NOTHING) -> str:
        """sha256 over names, kinds and contents, folder by folder."""
        return self._digest(found, top, leave_out, "")

    def _digest(self, found: Image, inode: int, leave_out: frozenset[str], above: str) -> str:
        if self.disk.nodes[inode].kind != "folder":
            return self._said(found, inode)
        shared = found.ground if not leave_out and inode not in found.dirty else None
        if shared is not None and inode in shared.digests:
            return shared.digests[inode]
        whole = hashlib.sha256(b"folder\n")
        for name, below in sorted(found.folders.get(inode, {}).items()):
            path = f"{above}{name}"
            if not (leave_out and passed_over(path, leave_out)):
                said = self._digest(found, below, _further(path, leave_out), f"{path}/")
                whole.update(f"{name}\0{said}\n".encode())
        if shared is not None:
            shared.digests[inode] = whole.hexdigest()
        return whole.hexdigest()

    def _said(self, found: Image, inode: int) -> str:
        node = self.disk.nodes[inode]
        if node.kind == "link":
            return f"link {node.target}"
        key = inode, found.content.get(inode, ())
        if found.torn in key[1]:
            return hashlib.sha256(bytes_of(self.disk, found, inode)).hexdigest()
        if key not in self._hashes:
            self._hashes[key] = hashlib.sha256(bytes_of(self.disk, found, inode)).hexdigest()
        return self._hashes[key]


def _further(path: str, leave_out: frozenset[str]) -> frozenset[str]:
    """What `leave_out` has to say about what lies below a path."""
    return leave_out if path.count("/") + 1 < _DEEPEST else _NOTHING
