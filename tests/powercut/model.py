"""A file system as a list of operations, of which a power cut may keep some: the pessimistic reading of POSIX.

An inode's data is on the disk once it was fsynced, a folder's entries once the folder was. Until then each operation
may be there or not, whatever came after it; a rename is there as a whole or not at all. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

ROOT = 0


@dataclass(frozen=True)
class Entry:
    """`name` in `folder` becomes `inode`; None: goes away."""

    folder: int
    name: str
    inode: int | None


@dataclass(frozen=True)
class Move:
    """One rename: both names at once."""

    source: tuple[int, str]
    dest: tuple[int, str]


@dataclass(frozen=True)
class Data:
    """Bytes at an offset; `size`: the file is cut or filled with zeros to it first."""

    inode: int
    offset: int = 0
    content: bytes = b""
    size: int | None = None


@dataclass(frozen=True)
class Sync:
    """A barrier for one inode, None: for all."""

    inode: int | None


Operation = Entry | Move | Data | Sync


@dataclass(frozen=True)
class Node:
    """What an inode is from birth: 'file', 'folder', or 'link' with its target."""

    kind: str
    target: str = ""


@dataclass
class Disk:
    """Inodes and what was done, in order. `base` operations at the front are on the disk already."""

    nodes: dict[int, Node] = field(default_factory=lambda: {ROOT: Node("folder")})
    operations: list[Operation] = field(default_factory=list)

    def born(self, node: Node) -> int:
        inode = len(self.nodes)
        self.nodes[inode] = node
        return inode


Folders = Mapping[int, Mapping[str, int]]
Content = Mapping[int, tuple[int, ...]]  # inode -> indices of the data operations that it holds


@dataclass(frozen=True)
class Image:
    """One state of the disk. `torn`: the data operation of which only the first half is there, -1 none.

    ground: the image that this one was made from; `touched`: inodes that differ from it.
    """

    folders: Folders
    content: Content
    torn: int = -1
    ground: Ground | None = None
    touched: frozenset[int] = frozenset()

    @cached_property
    def dirty(self) -> frozenset[int]:
        """Inodes below which something differs from the ground; every one where there is none is not asked for."""
        return self.touched if self.ground is None else self.ground.above(self.touched)


class Ground:
    """An image that many others differ from in little; what was found out about its folders serves them too."""

    def __init__(self, found: Image) -> None:
        self.image = found
        self.digests: dict[int, str] = {}
        self.below: dict[int, frozenset[int]] = {}
        self._parents: dict[int, list[int]] = {}
        for folder, names in found.folders.items():
            for inode in names.values():
                self._parents.setdefault(inode, []).append(folder)

    def above(self, inodes: Iterable[int]) -> frozenset[int]:
        """These and every folder above them."""
        found, waiting = set[int](), [*inodes]
        while waiting:
            inode = waiting.pop()
            if inode not in found:
                found.add(inode)
                waiting += self._parents.get(inode, ())
        return frozenset(found)


def image(disk: Disk, kept: Iterable[int], torn: int = -1, ground: Ground | None = None) -> Image:
    """The disk with these operations alone (indices, rising); on top of those of the ground, if there is one."""
    folders: dict[int, Mapping[str, int]] = {} if ground is None else {**ground.image.folders}
    content: dict[int, tuple[int, ...]] = {} if ground is None else {**ground.image.content}
    own: dict[int, dict[str, int]] = {}  # folders of which this image has a copy of its own
    written: set[int] = set()

    def names(folder: int) -> dict[str, int]:
        if folder not in own:
            folders[folder] = own[folder] = {**folders.get(folder, {})}
        return own[folder]

    for index in kept:
        operation = disk.operations[index]
        if isinstance(operation, Data):
            content[operation.inode] = (*content.get(operation.inode, ()), index)
            written.add(operation.inode)
        elif isinstance(operation, Entry):
            if operation.inode is None:
                names(operation.folder).pop(operation.name, None)
            else:
                names(operation.folder)[operation.name] = operation.inode
        elif isinstance(operation, Move):
            moved = names(operation.source[0]).pop(operation.source[1], None)
            if moved is not None:
                names(operation.dest[0])[operation.dest[1]] = moved
    if torn >= 0:
        written |= touched(disk.operations[torn])
    return Image(folders, content, torn, ground, frozenset({*own, *written}))


def unsynced(disk: Disk, count: int) -> list[int]:
    """Indices below `count` that no barrier below `count` has put on the disk."""
    safe_inodes: set[int] = set()
    left: list[int] = []
    for index in range(count - 1, -1, -1):
        operation = disk.operations[index]
        if isinstance(operation, Sync):
            if operation.inode is None:
                break
            safe_inodes.add(operation.inode)
        elif not touched(operation) & safe_inodes:
            left.append(index)
    return left[::-1]


def touched(operation: Operation) -> set[int]:
    """The inodes whose fsync puts it on the disk."""
    if isinstance(operation, Entry):
        return {operation.folder}
    if isinstance(operation, Move):
        return {operation.source[0], operation.dest[0]}
    return {operation.inode} if isinstance(operation, Data) else set()


def bytes_of(disk: Disk, found: Image, inode: int) -> bytes:
    """What a file holds."""
    raw = bytearray()
    for index in found.content.get(inode, ()):
        data = disk.operations[index]
        assert isinstance(data, Data)
        content = data.content[: len(data.content) // 2] if index == found.torn else data.content
        if data.size is not None:
            raw = raw[: data.size].ljust(data.size, b"\0")
        end = data.offset + len(content)
        if content:
            raw = raw.ljust(end, b"\0")
            raw[data.offset : end] = content
    return bytes(raw)


def passed_over(path: str, leave_out: frozenset[str]) -> bool:
    """Whether `leave_out` has that path; `folder/.` in it stands for every hidden name in that folder."""
    folder, slash, name = path.rpartition("/")
    return path in leave_out or (slash == "/" and name.startswith(".") and f"{folder}/." in leave_out)
