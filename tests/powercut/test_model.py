"""The model against the kernel: what a real program did, replayed from its trace, is the tree that lies there."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.powercut import trace
from tests.powercut.model import ROOT, Data, Disk, Entry, Move, Node, Sync, bytes_of, image, unsynced
from tests.powercut.replay import Replay
from tests.powercut.states import states
from tests.powercut.trees import Trees

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
PROGRAM = """
import os, shutil, sys, pathlib
os.chdir(sys.argv[1])
def put(path, raw):
    with open(path + ".part", "wb") as file:
        file.write(raw); file.flush(); os.fsync(file.fileno())
    os.rename(path + ".part", path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY); os.fsync(folder); os.close(folder)
os.makedirs("a/b", exist_ok=True)
put("a/one", b"one" * 1000)
put("a/one", b"two")
os.symlink("a", "link.new"); os.replace("link.new", "link")
shutil.copyfile("a/one", "a/b/copy"); os.link("a/one", "a/hard")
with open("a/log", "ab") as log:
    for n in range(5): log.write(b"line\\n"); log.flush()
with open("link/log", "r+b") as log:
    log.seek(3); log.write(b"XY"); log.truncate(12)
os.pwrite(fd := os.open("a/p", os.O_WRONLY | os.O_CREAT), b"at", 5); os.close(fd)
os.truncate("a/p", 6)
os.mkdir("gone"); put("gone/x", b"x"); shutil.rmtree("gone")
if os.fork() == 0:
    os.mkdir("child"); pathlib.Path("child/said").write_bytes(b"hi\\n"); os.rename("child/said", "child/was")
    os._exit(0)
os.wait()
"""


def tree(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def shown(disk: Disk, found) -> dict[str, object]:
    told: dict[str, object] = {}
    for path, inode in Trees(disk).walk(found, ROOT):
        node = disk.nodes[inode]
        told[path] = {"link": node.target, "folder": None}.get(node.kind, bytes_of(disk, found, inode))
    return told


@needs_strace
def test_what_a_program_did_is_what_the_model_holds(tmp_path):
    prefix = tmp_path / "prefix"
    (prefix / "old").mkdir(parents=True)
    (prefix / "old/file").write_bytes(b"was there")
    replay = Replay(prefix, Path.cwd())
    replay.load(prefix)
    assert trace.record([sys.executable, "-c", PROGRAM, str(prefix)], tmp_path / "trace") == 0
    replay.feed(trace.read(tmp_path / "trace"))
    whole = image(replay.disk, range(len(replay.disk.operations)))
    assert shown(replay.disk, whole) == tree(prefix)
    assert len(replay.mutating) == len(replay.ends) > 30


@needs_strace
def test_a_call_that_is_not_modelled_is_no_silent_hole(tmp_path):
    program = "import os, sys; fd = os.open(sys.argv[1] + '/f', os.O_CREAT | os.O_WRONLY); os.writev(fd, [b'a', b'b'])"
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    trace.record([sys.executable, "-c", program, str(prefix)], tmp_path / "trace")
    with pytest.raises(trace.TraceError, match="writev"):
        Replay(prefix, Path.cwd()).feed(trace.read(tmp_path / "trace"))


@needs_strace
def test_a_kill_comes_before_the_call_that_it_is_set_on(tmp_path):
    program = "import os, sys; [os.mkdir(f'{sys.argv[1]}/{n}') for n in range(5)]"
    killed = trace.kill_at([sys.executable, "-c", program, str(tmp_path)], "mkdir", 3)
    assert [trace.unhex(line).partition('"')[2].partition('"')[0] for line in killed] == [f"{tmp_path}/2"]
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


def written() -> Disk:
    """A file written beside and renamed over the old one, nothing synced."""
    disk = Disk()
    old, new = disk.born(Node("file")), disk.born(Node("file"))
    disk.operations += [Entry(ROOT, "f", old), Data(old, 0, b"old"), Sync(None)]
    disk.operations += [Entry(ROOT, "f.part", new), Data(new, 0, b"newer"), Move((ROOT, "f.part"), (ROOT, "f"))]
    return disk


def contents(disk: Disk) -> set[object]:
    found = set()
    trees = Trees(disk)
    for state in states(trees, len(disk.operations), frozenset()):
        found.add(shown(disk, trees.image(len(disk.operations), state.lost, state.torn)).get("f"))
    return found


def test_a_rename_without_fsync_may_leave_an_empty_or_a_torn_file():
    assert contents(written()) == {b"old", b"newer", b"", b"ne"}


def test_fsync_before_the_rename_leaves_the_old_file_or_the_new_one():
    disk = written()
    disk.operations.insert(5, Sync(2))
    assert contents(disk) == {b"old", b"newer"}
    disk.operations.append(Sync(ROOT))
    assert contents(disk) == {b"newer"}


def test_what_a_barrier_covers_cannot_be_lost():
    disk = written()
    assert unsynced(disk, 6) == [3, 4, 5]
    disk.operations.append(Sync(ROOT))
    assert unsynced(disk, 7) == [4]


def test_scratch_folders_are_not_looked_at():
    disk = Disk()
    folder, file = disk.born(Node("folder")), disk.born(Node("file"))
    disk.operations += [Entry(ROOT, "staging", folder), Sync(None), Entry(folder, "x", file), Data(file, 0, b"abc")]
    assert len(list(states(Trees(disk), 4, frozenset({"staging"})))) == 1
    assert len(list(states(Trees(disk), 4, frozenset()))) > 3


def test_hidden_names_of_a_folder_are_scratch_where_it_is_said():
    disk = Disk()
    top, inside = disk.born(Node("folder")), disk.born(Node("folder"))
    file = disk.born(Node("file"))
    disk.operations += [Entry(ROOT, "agent", top), Sync(None), Entry(top, ".new", inside)]
    disk.operations += [Entry(inside, "x", file), Data(file, 0, b"abc")]
    assert len(list(states(Trees(disk), 5, frozenset({"agent/."})))) == 1
    disk.operations.append(Move((top, ".new"), (top, "whole")))  # what was not synced counts from here on
    assert len(list(states(Trees(disk), 6, frozenset({"agent/."})))) > 3


def test_what_is_remembered_of_a_ground_changes_no_digest():
    disk = Disk()
    folders = [disk.born(Node("folder")) for _ in range(9)]
    disk.operations += [Entry(ROOT, f"d{n}", inode) for n, inode in enumerate(folders)]
    for n in range(200):  # files come, change, move and go, across a ground
        file, folder = disk.born(Node("file")), folders[n * 7 % 9]
        disk.operations += [Entry(folder, f"f{n}", file), Data(file, 0, bytes([n % 5]) * 3)]
        disk.operations.append(Move((folder, f"f{n}"), (folders[n % 9], f"g{n % 11}")))
        disk.operations.append(Entry(folders[n % 4], f"g{n % 3}", None))
    trees, end = Trees(disk), len(disk.operations)
    for count in range(100, end, 37):
        for lost in (frozenset(), frozenset({count - 1}), frozenset({count - 90, count - 3})):
            kept = [index for index in range(count) if index not in lost]
            afresh = Trees(disk).digest(image(disk, kept), ROOT, frozenset({"d3", "d4/."}))
            assert trees.digest(trees.image(count, lost), ROOT, frozenset({"d3", "d4/."})) == afresh
            plain = {inode for _, inode in trees.walk(image(disk, kept), ROOT)} | {ROOT}
            assert trees.reachable(trees.image(count, lost)) == plain


def test_trace_of_a_cut_string_is_refused():
    with pytest.raises(trace.TraceError):
        trace.text_of('"\\x61"...')
    assert trace.text_of('"\\x61"') == b"a"
