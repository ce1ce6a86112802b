"""From the calls of a trace to the operations of a model: descriptors, offsets and paths are followed."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path

from tests.powercut.model import ROOT, Data, Disk, Entry, Image, Move, Node, Sync, bytes_of
from tests.powercut.trace import Call, TraceError, folder_of, number_of, text_of


class Replay:
    """`prefix`: the folder that is modelled; calls on other paths change nothing here."""

    def __init__(self, prefix: Path, working_folder: Path) -> None:
        self.disk = Disk()
        self.mutating: list[Call] = []  # those within the prefix, in order
        self.ends: list[int] = []  # operations after each of them
        self.loaded = 0  # operations that were on the disk before
        self._prefix = str(prefix)
        self._cwd: dict[int, str] = {}
        self._first_cwd = str(working_folder)
        self._names: dict[int, dict[str, int]] = {ROOT: {}}  # as the running system sees it
        self._sizes: dict[int, int] = {}
        self._offsets: dict[tuple[int, int], int] = {}

    def load(self, folder: Path) -> None:
        """What lay there before, on the disk."""
        self._load(folder, ROOT)
        self.disk.operations.append(Sync(None))
        self.loaded = len(self.disk.operations)

    def feed(self, calls: Iterable[Call]) -> None:
        """Raises TraceError for a call within the prefix that is not understood."""
        for call in calls:
            before = len(self.disk.operations)
            getattr(self, f"_{call.name.rstrip('0123456789')}", self._unknown)(call)
            if len(self.disk.operations) > before:
                self.mutating.append(call)
                self.ends.append(len(self.disk.operations))

    def folder(self, name: str) -> int | None:
        """The inode of a folder at the top, as it is in the end."""
        return self._names[ROOT].get(name)

    # --- paths ------------------------------------------------------------------------------------------------

    def _load(self, folder: Path, inode: int) -> None:
        for name in sorted(os.listdir(folder)):
            path = folder / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                self._make(inode, name, Node("link", os.readlink(path)))
            elif stat.S_ISDIR(mode):
                self._load(path, self._make(inode, name, Node("folder")))
            elif stat.S_ISREG(mode):
                made, raw = self._make(inode, name, Node("file")), path.read_bytes()
                self.disk.operations.append(Data(made, 0, raw))
                self._sizes[made] = len(raw)

    def _make(self, folder: int, name: str, node: Node) -> int:
        inode = self.disk.born(node)
        if node.kind == "folder":
            self._names[inode] = {}
        self._enter(folder, name, inode)
        return inode

    def _enter(self, folder: int, name: str, inode: int | None) -> None:
        if inode is None:
            self._names[folder].pop(name, None)
        else:
            self._names[folder][name] = inode
        self.disk.operations.append(Entry(folder, name, inode))

    def _absolute(self, call: Call, path: str, at: str = "") -> str:
        start = folder_of(at) if at else self._cwd.get(call.pid, self._first_cwd)
        return posixpath.normpath(posixpath.join(start, path))

    def _place(self, call: Call, quoted: str, at: str = "") -> tuple[int, str] | None:
        """(folder, name) of a path; None outside the prefix."""
        path = self._absolute(call, os.fsdecode(text_of(quoted)), at)
        if not path.startswith(self._prefix + "/"):
            return None
        parent, name = posixpath.split(path)
        folder = self._inode(parent)
        if folder is None:
            raise TraceError(f"{call.name} in a folder that is not known: {path}")
        return folder, name

    def _inode(self, path: str, follow: int = 8) -> int | None:
        """The inode of an absolute path, links followed; None: there is none."""
        if path == self._prefix:
            return ROOT
        if not path.startswith(self._prefix + "/") or follow == 0:
            return None
        parent, name = posixpath.split(path)
        folder = self._inode(parent, follow)
        inode = None if folder is None else self._names.get(folder, {}).get(name)
        if inode is not None and self.disk.nodes[inode].kind == "link":
            target = self.disk.nodes[inode].target
            return self._inode(posixpath.normpath(posixpath.join(parent, target)), follow - 1)
        return inode

    # --- calls ------------------------------------------------------------------------------------------------

    def _unknown(self, call: Call) -> None:
        if any(self._prefix in folder_of(argument) for argument in call.arguments):
            raise TraceError(f"{call.name} within the prefix is not modelled")

    def _openat(self, call: Call, at: bool = True) -> None:
        where, path, flags = call.arguments[:3] if at else ("", *call.arguments[:2])
        number = int(call.result.partition("<")[0])
        self._offsets[call.pid, number] = -1 if "O_APPEND" in flags else 0
        if "O_CREAT" not in flags and "O_TRUNC" not in flags:
            return
        place = self._place(call, path, where)
        if place is None:
            return
        inode = self._inode(folder_of(call.result))
        if inode is None:
            inode = self._make(*place, Node("file"))
        elif "O_TRUNC" in flags and self._sizes.get(inode, 0):
            self._data(inode, 0, b"", 0)

    def _open(self, call: Call) -> None:
        self._openat(call, at=False)

    def _write(self, call: Call) -> None:
        inode = self._inode(folder_of(call.arguments[0]))
        if inode is None:
            return
        raw, key = text_of(call.arguments[1]), (call.pid, number_of(call.arguments[0]))
        offset = self._offsets.get(key, -1)
        raw = raw[: int(call.result)]
        self._data(inode, self._sizes.get(inode, 0) if offset < 0 else offset, raw)
        if offset >= 0:
            self._offsets[key] = offset + len(raw)

    def _pwrite(self, call: Call) -> None:
        inode = self._inode(folder_of(call.arguments[0]))
        if inode is not None:
            self._data(inode, int(call.arguments[3]), text_of(call.arguments[1])[: int(call.result)])

    def _lseek(self, call: Call) -> None:
        self._offsets[call.pid, number_of(call.arguments[0])] = int(call.result)

    def _sendfile(self, call: Call) -> None:
        inode = self._inode(folder_of(call.arguments[0]))
        if inode is None or not int(call.result):
            return
        source = self._inode(folder_of(call.arguments[1]))
        start = int(call.arguments[2].partition("[")[2].partition("]")[0])
        if source is None:
            with open(folder_of(call.arguments[1]), "rb") as file:
                raw = file.read()
        else:
            raw = self._now(source)
        key = call.pid, number_of(call.arguments[0])
        self._data(inode, self._offsets.get(key, 0), raw[start : start + int(call.result)])
        self._offsets[key] = self._offsets.get(key, 0) + int(call.result)

    def _now(self, inode: int) -> bytes:
        mine = [i for i, one in enumerate(self.disk.operations) if isinstance(one, Data) and one.inode == inode]
        return bytes_of(self.disk, Image({}, {inode: tuple(mine)}), inode)

    def _ftruncate(self, call: Call) -> None:
        inode = self._inode(folder_of(call.arguments[0]))
        if inode is not None:
            self._data(inode, 0, b"", int(call.arguments[1]))

    def _truncate(self, call: Call) -> None:
        place = self._place(call, call.arguments[0])
        if place is not None:
            self._data(self._names[place[0]][place[1]], 0, b"", int(call.arguments[1]))

    def _data(self, inode: int, offset: int, raw: bytes, size: int | None = None) -> None:
        self.disk.operations.append(Data(inode, offset, raw, size))
        self._sizes[inode] = max(offset + len(raw), self._sizes.get(inode, 0)) if size is None else size

    def _fsync(self, call: Call) -> None:
        inode = self._inode(folder_of(call.arguments[0]))
        if inode is not None:
            self.disk.operations.append(Sync(inode))

    _fdatasync = _fsync

    def _sync(self, call: Call) -> None:
        self.disk.operations.append(Sync(None))

    def _syncfs(self, call: Call) -> None:
        self.disk.operations.append(Sync(None))

    def _mkdirat(self, call: Call, at: bool = True) -> None:
        place = self._place(call, call.arguments[1], call.arguments[0]) if at else self._place(call, call.arguments[0])
        if place is not None:
            self._make(*place, Node("folder"))

    def _mkdir(self, call: Call) -> None:
        self._mkdirat(call, at=False)

    def _symlinkat(self, call: Call) -> None:
        place = self._place(call, call.arguments[2], call.arguments[1])
        if place is not None:
            self._make(*place, Node("link", os.fsdecode(text_of(call.arguments[0]))))

    def _symlink(self, call: Call) -> None:
        place = self._place(call, call.arguments[1])
        if place is not None:
            self._make(*place, Node("link", os.fsdecode(text_of(call.arguments[0]))))

    def _link(self, call: Call) -> None:
        self._linked(self._place(call, call.arguments[0]), self._place(call, call.arguments[1]), call)

    def _linkat(self, call: Call) -> None:
        a, b = call.arguments[:2], call.arguments[2:4]
        self._linked(self._place(call, a[1], a[0]), self._place(call, b[1], b[0]), call)

    def _linked(self, source: tuple[int, str] | None, dest: tuple[int, str] | None, call: Call) -> None:
        if dest is None:
            return
        if source is None:
            raise TraceError(f"a hard link to a file outside: {call.arguments}")
        self._enter(*dest, self._names[source[0]][source[1]])

    def _rename(self, call: Call) -> None:
        self._moved(self._place(call, call.arguments[0]), self._place(call, call.arguments[1]), call)

    def _renameat(self, call: Call) -> None:
        a, b = call.arguments[:2], call.arguments[2:4]
        if len(call.arguments) > 4 and "EXCHANGE" in call.arguments[4]:
            raise TraceError("an exchange of two names is not modelled")
        self._moved(self._place(call, a[1], a[0]), self._place(call, b[1], b[0]), call)

    def _moved(self, source: tuple[int, str] | None, dest: tuple[int, str] | None, call: Call) -> None:
        if source is None and dest is None:
            return
        if source is None or dest is None:
            raise TraceError(f"a rename across the prefix: {call.arguments}")
        self._names[dest[0]][dest[1]] = self._names[source[0]].pop(source[1])
        self.disk.operations.append(Move(source, dest))

    def _unlinkat(self, call: Call, at: bool = True) -> None:
        place = self._place(call, call.arguments[1], call.arguments[0]) if at else self._place(call, call.arguments[0])
        if place is not None:
            self._enter(*place, None)

    def _unlink(self, call: Call) -> None:
        self._unlinkat(call, at=False)

    _rmdir = _unlink

    def _chdir(self, call: Call) -> None:
        self._cwd[call.pid] = self._absolute(call, os.fsdecode(text_of(call.arguments[0])))

    def _fchdir(self, call: Call) -> None:
        self._cwd[call.pid] = folder_of(call.arguments[0])

    def _clone(self, call: Call) -> None:
        child = int(call.result)
        self._cwd[child] = self._cwd.get(call.pid, self._first_cwd)
        for (pid, number), offset in [*self._offsets.items()]:
            if pid == call.pid:
                self._offsets[child, number] = offset

    _fork = _vfork = _clone
