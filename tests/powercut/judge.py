"""Whether a whole release is current after the boot that follows one state that a power cut left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from edgevla.install.layout import Layout
from tests.powercut.boot import CONTENTS, Expected, fault_after_boot
from tests.powercut.model import ROOT, Image, Move, bytes_of, image, passed_over
from tests.powercut.replay import Replay
from tests.powercut.trees import Trees

# Nothing that a robot runs lies there; `agent/.`: an installer has a hidden name until it is whole and synced.
SCRATCH = frozenset({"staging", "log", "lock", "state.lock", "chunks", "agent/."})
RECORDS = frozenset({"installed.json", ".installed.json.new"})  # of a release: what this robot made of it, for people
_PROCESS_EVERY = 50  # in so many distinct trees the selector runs in a process of its own

Marks = tuple[tuple[object, ...], ...]


class Judge:
    """`prefix`: where states are laid out, the path that the releases were installed under; nothing lies there else.

    `whole`: id -> digest of that release's folder as the installer leaves it. `agents`: of the installers.
    """

    def __init__(self, trees: Trees, whole: Mapping[str, str], agents: Mapping[str, str], prefix: Path, work: Path):
        self._trees, self._layout = trees, Layout(prefix)
        self._right = {"releases": whole, "agent": agents}
        self._pool = Pool(work / "pool")
        self._known: dict[tuple[str, bool], str] = {}
        self.boots = 0  # times the selector ran

    @property
    def distinct(self) -> int:
        return len(self._known)

    def judge(self, found: Image, expected: Expected, had_good: bool) -> str:
        """Why no good release runs, "" when one does. Each distinct tree is judged once."""
        key = self._trees.digest(found, ROOT, SCRATCH), had_good
        if key not in self._known:
            self._known[key] = self._judged(found, expected, had_good)
        return self._known[key]

    def _judged(self, found: Image, expected: Expected, had_good: bool) -> str:
        prefix = self._layout.prefix
        try:
            self._lay_out(found)
            as_process = self.distinct % _PROCESS_EVERY == 0
            lost, boots = fault_after_boot(self._layout, expected, had_good, self._sound, as_process)
            self.boots += boots
            return self._pool.take_back() or lost
        finally:
            self._pool.take_back()
            shutil.rmtree(prefix)

    def _sound(self, layout: Layout, current: str) -> str:
        """Every byte of the release and of the installer, compiled Python too, beyond what the verifier looks at."""
        agent = os.readlink(layout.agent) if layout.agent.is_symlink() else "none"
        for name, folder in (("releases", layout.release(current)), ("agent", layout.agents / agent)):
            if self._pool.digest(folder) != self._right[name].get(folder.name):
                return f"{name}/{folder.name} is not whole"
        return "" if layout.launcher.is_file() else "the installer's launcher is not there"

    def _lay_out(self, found: Image) -> None:
        """Whole releases and installers come from the pool: they are written once and moved into each state."""
        prefix, trees = self._layout.prefix, self._trees
        prefix.mkdir()
        for name, inode in sorted(found.folders.get(ROOT, {}).items()):
            if name in SCRATCH:
                continue
            if name not in CONTENTS or trees.disk.nodes[inode].kind != "folder":
                write_tree(trees, found, inode, prefix / name)
                continue
            (prefix / name).mkdir()
            for child, below in sorted(found.folders.get(inode, {}).items()):
                dest = prefix / name / child
                if passed_over(f"{name}/{child}", SCRATCH):
                    continue
                if trees.disk.nodes[below].kind == "folder":
                    self._pool.lend(trees, found, below, dest)
                else:
                    write_tree(trees, found, below, dest)


class Pool:
    """Folders that many states hold: on the disk once, lent to one state after another, looked at when they return."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._free: dict[str, list[Path]] = {}  # digest -> copies
        self._lent: dict[Path, tuple[str, Path]] = {}
        self._marks: dict[Path, Marks] = {}
        self._digests: dict[Path, str] = {}  # of a copy, read from the disk when it was new

    def lend(self, trees: Trees, found: Image, inode: int, dest: Path) -> None:
        key = trees.digest(found, inode)
        free = self._free.setdefault(key, [])
        if not free:
            copy = self._folder / str(len(self._marks))
            write_tree(trees, found, inode, copy)
            self._digests[copy] = digest_of(copy)
            self._marks[copy] = marks(copy)
            free.append(copy)
        copy = free.pop()
        copy.rename(dest)
        self._lent[dest] = key, copy

    def digest(self, lent: Path) -> str:
        """Of a folder that is lent; "" for a place where none is."""
        return self._digests[self._lent[lent][1]] if lent in self._lent and lent.is_dir() else ""

    def take_back(self) -> str:
        """All of them; what was changed meanwhile, by the kernel's own times. A changed copy is not lent again."""
        why = ""
        for dest, (key, copy) in self._lent.items():
            if not dest.is_dir() or marks(dest) != self._marks[copy]:
                why = f"something in {dest.parent.name}/{dest.name} was changed at boot"
                continue
            dest.rename(copy)
            self._free[key].append(copy)
        self._lent.clear()
        return why


def marks(folder: Path) -> Marks:
    """Inode, size and times of everything in a folder; a rename of the folder itself changes none of them."""
    found: list[tuple[object, ...]] = [(os.stat(folder).st_ino, os.stat(folder).st_mtime_ns)]
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                stat = entry.stat(follow_symlinks=False)
                found.append((entry.name, stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return tuple(found)


def write_tree(trees: Trees, found: Image, inode: int, dest: Path) -> None:
    """A file, link or folder of the model on the real disk."""
    node = trees.disk.nodes[inode]
    if node.kind == "link":
        dest.symlink_to(node.target)
    elif node.kind == "file":
        dest.write_bytes(bytes_of(trees.disk, found, inode))
    else:
        dest.mkdir()
        for name, below in sorted(found.folders.get(inode, {}).items()):
            write_tree(trees, found, below, dest / name)


def digest_of(folder: Path) -> str:
    """As `Trees.digest`, of a folder that lies on a real disk; "" where there is none."""
    if not folder.is_dir():
        return ""
    replay = Replay(folder, folder)
    replay.load(folder)
    return Trees(replay.disk).digest(image(replay.disk, range(len(replay.disk.operations))), ROOT, RECORDS)


def whole(replay: Replay, parent: str) -> dict[str, str]:
    """Folder of `releases` or `agent` -> its digest as it was when the running system had just put it there."""
    disk, trees = replay.disk, Trees(replay.disk)
    top = image(disk, range(len(disk.operations))).folders[ROOT][parent]
    counts = [replay.loaded]
    for index in range(replay.loaded, len(disk.operations)):
        operation = disk.operations[index]
        if isinstance(operation, Move) and operation.dest[0] == top:
            counts.append(index + 1)
    found: dict[str, str] = {}
    for count in counts:
        now = trees.image(count)
        for name, inode in now.folders.get(top, {}).items():
            if name not in found and disk.nodes[inode].kind == "folder":
                found[name] = trees.digest(now, inode, RECORDS)
    return found
