"""An installer killed by SIGKILL in front of any change of the disk: then the selector, and a release that works.

Every change that Python announces to an audit hook is a place to be killed at: files opened for writing, renames,
links, removals, folders, modes. `tests/powercut` does the same for every system call, and for what a disk forgets.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevla.install.install import Install
from edgevla.install.layout import Layout, linked_id
from edgevla.install.lock import InstallLock, this_holder
from edgevla.install.releases import collect
from edgevla.install.rollback import Rollback
from edgevla.install.select import count, recover
from edgevla.install.state import MAX_TRIES, read_state
from edgevla.install.steps import Options
from edgevla.install.unpack import check_release
from tests.edgevla.install.kit import Made, Recorder, make_release, new_robot, runs, stage, tools_with
from tests.edgevla.install.test_install import installed

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.remove", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link"}
_NEVER = 10**9

Work = Callable[[Layout], object]


def killed(layout: Layout, work: Work, at: int) -> int | None:
    """Do `work` in a child that is killed in front of its change number `at`; None when it was, else its changes."""
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        changes = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal changes
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
            if writes or event in _CHANGES:
                if changes == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                changes += 1

        try:
            sys.addaudithook(hook)
            work(layout)
            os.write(write_end, str(changes).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as said:
        text = said.read()
    os.waitpid(child, 0)
    return int(text) if text else None


@pytest.fixture
def upgrade(folder: Path) -> tuple[Layout, Made, Made]:
    """A robot with two good releases, and a third complete in staging."""
    robot = new_robot(folder / "master")
    installed(robot, 1)
    old, _ = installed(robot, 2)
    new = make_release(3)
    stage(robot, new)
    return robot, old, new


def install(release_id: str) -> Work:
    def work(layout: Layout) -> object:
        manager = Recorder(layout, active=True)
        outcome = Install(layout, release_id, tools_with(manager), Options(), lambda _: None).run()
        assert outcome.good, outcome
        return outcome

    return work


def copied(master: Layout, to: Path) -> Layout:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(master.prefix, to, symlinks=True)
    return Layout(to)


def some(total: int, early: int) -> list[int]:
    """`early` points spread over what comes before the last forty changes, and each of those."""
    late = max(0, total - 40)
    return sorted({*range(0, late, max(1, late // early)), *range(late, total)})


def tree(layout: Layout) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(layout.prefix.rglob("*")):
        status = path.lstat()
        content = os.readlink(path).encode() if path.is_symlink() else b""
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else content
        found[str(path.relative_to(layout.prefix))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def survived(layout: Layout, allowed: set[str]) -> str:
    """The selector is idempotent, and what it leaves is whole, and good at last. Returns what runs first."""
    recover(layout)
    after = tree(layout)
    recover(layout)
    assert tree(layout) == after
    first = linked_id(layout.current)
    assert first in allowed
    check_release(layout, first or "")
    for _ in range(MAX_TRIES):  # nobody comes to mark it good
        count(layout)
    recover(layout)
    good = runs(layout)
    assert good in allowed
    check_release(layout, good or "")
    return first or ""


def test_an_upgrade_killed_anywhere_leaves_a_release_and_can_be_done_again(
    upgrade: tuple[Layout, Made, Made], folder: Path
) -> None:
    master, old, new = upgrade
    total = killed(copied(master, folder / "whole"), install(new.id), _NEVER)
    assert total is not None
    assert total > 60
    ran = set()
    for at in some(total, early=12):
        robot = copied(master, folder / "robot")
        assert killed(robot, install(new.id), at) is None, at
        ran.add(survived(robot, {old.id, new.id}))
        lock = InstallLock.take(robot, this_holder(), patience_s=0)  # it died with its holder
        if not robot.release(new.id).is_dir():
            stage(robot, new)  # what the next offer does, from what was left
        install(new.id)(robot)
        lock.close()
        assert runs(robot) == new.id, at
        assert read_state(robot).trial is None
    assert ran == {old.id, new.id}


def test_a_first_install_killed_anywhere_leaves_nothing_half(folder: Path) -> None:
    master, new = new_robot(folder / "master"), make_release(1)
    stage(master, new)
    total = killed(copied(master, folder / "whole"), install(new.id), _NEVER)
    assert total is not None
    for at in some(total, early=6):
        robot = copied(master, folder / "robot")
        assert killed(robot, install(new.id), at) is None, at
        first = recover(robot).current
        assert first in (None, new.id)
        if first is not None:
            check_release(robot, first)
        if not robot.release(new.id).is_dir():
            stage(robot, new)
        install(new.id)(robot)
        assert runs(robot) == new.id, at


def test_a_rollback_and_a_clean_up_killed_anywhere_leave_a_good_release(
    upgrade: tuple[Layout, Made, Made], folder: Path
) -> None:
    master, old, _ = upgrade
    before = linked_id(master.previous) or ""

    def back(layout: Layout) -> None:
        manager = Recorder(layout, active=True)
        assert Rollback(layout, None, tools_with(manager), Options(), lambda _: None).run().good

    def clean(layout: Layout) -> None:
        layout.previous.unlink()
        assert collect(layout, 1) == [before]

    for work in (back, clean):
        total = killed(copied(master, folder / "whole"), work, _NEVER)
        assert total is not None
        assert total >= 4
        for at in range(total):
            robot = copied(master, folder / "robot")
            assert killed(robot, work, at) is None, at
            first = recover(robot).current
            assert first == runs(robot)
            assert first in (old.id, before)
            check_release(robot, first or "")
