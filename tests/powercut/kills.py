"""SIGKILL for real, at a call of the installer: what the processes that are left make of it is judged."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevla.install.layout import Layout
from edgevla.install.state import read_state
from edgevla.install.tools import tools_of
from tests.powercut import trace
from tests.powercut.aim import Aim, Sights, met, plain_paths
from tests.powercut.boot import Expected, fault_after_boot
from tests.powercut.judge import SCRATCH
from tests.powercut.model import ROOT, Entry, Move, Sync
from tests.powercut.replay import Replay
from tests.powercut.scenario import Chapter, Robot, environment

_DECIDING = ("releases", "etc", "agent")  # besides the prefix itself: folders whose names decide what runs


@dataclass(frozen=True)
class Kill:
    """One of them, in words that another process understands. `paths`: of the call, to know it again."""

    told: str
    committing: bool
    aim: Aim
    paths: tuple[str, ...]
    command: tuple[str, ...]
    prefix: str  # in the recorded run
    before: Path
    expected: Expected


@dataclass(frozen=True)
class Killed:
    """`killed`: something was; `met`: the very call. `lost`: why no good release runs after the next boot."""

    committing: bool
    killed: bool
    met: bool
    lost: str


def planned(
    robot: Robot, chapter: Chapter, replay: Replay, sights: Sights, before: Path, expected: Expected, others: int
) -> list[Kill]:
    """At every call that commits, and at `others` in between, evenly."""
    committing = {index for index in range(len(replay.mutating)) if commits(replay, index)}
    rest = [index for index in range(len(replay.mutating)) if index not in committing]
    prefix = robot.layout.prefix
    kills = []
    for point in sorted([*committing, *evenly(rest, others)]):
        call = replay.mutating[point]
        told, aim, paths = f"call {point + 1}, {call.name}", sights.aim(call, prefix), tuple(plain_paths(call))
        command = tuple(robot.command(chapter))
        kills.append(Kill(told, point in committing, aim, paths, command, str(prefix), before, expected))
    return kills


def carry_out(kill: Kill, folder: Path) -> Killed:
    """On a copy of the robot as it was before, in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        layout = Layout(Path(name, "edgevla"))

        def moved(texts: Sequence[str]) -> list[str]:
            return [text.replace(kill.prefix, str(layout.prefix)) for text in texts]

        shutil.copytree(kill.before, layout.prefix, symlinks=True)
        aim = kill.aim
        lines = trace.kill_at(moved(kill.command), aim.name, aim.nth, environment(), moved(aim.paths))
        wait_for_installer(layout)
        tools_of(layout).manager.stop()
        end_orphans(layout.prefix)
        lost = judged(layout, kill.before, kill.expected)
        hit = any(met(line, aim.name, moved(kill.paths)) for line in lines)
    return Killed(kill.committing, bool(lines), hit, f"killed at {kill.told}: {lost}" if lost else "")


def evenly(indices: Sequence[int], count: int) -> list[int]:
    """`count` of them, or all where there are fewer."""
    if count >= len(indices):
        return list(indices)
    return [indices[number * len(indices) // count] for number in range(count)]


def wait_for_installer(layout: Layout) -> None:
    """A kill of the command alone leaves its job at work, in a session of its own: what it makes of it is judged."""
    with contextlib.suppress(FileNotFoundError), layout.lock.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def end_orphans(prefix: Path) -> None:
    """A service whose installer was killed before it noted the process: on a robot the boot, or systemd, ends it."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            if f"{prefix}/".encode() in (place / "cmdline").read_bytes():
                os.kill(int(place.name), signal.SIGKILL)


def commits(replay: Replay, index: int) -> bool:
    """Whether that call changes a name that decides what runs: of a release, a link, state.json, settings, trust."""
    start = replay.ends[index - 1] if index else replay.loaded
    deciding = {replay.folder(name) for name in _DECIDING} - {None}
    for operation in replay.disk.operations[start : replay.ends[index]]:
        if isinstance(operation, Sync) and operation.inode in {ROOT, *deciding}:
            return True
        if isinstance(operation, Move) and any(
            _decides(*place, deciding) for place in (operation.source, operation.dest)
        ):
            return True
        if isinstance(operation, Entry) and _decides(operation.folder, operation.name, deciding):
            return True
    return False


def _decides(folder: int, name: str, deciding: set[int | None]) -> bool:
    return (folder == ROOT and name not in SCRATCH) or (folder in deciding and not name.startswith("."))


def judged(layout: Layout, before: Path, expected: Expected) -> str:
    """Why no good release runs after the next boot; "" when one does. A SIGKILL loses nothing that was written."""
    had_good = bool(read_state(layout).good or read_state(Layout(before)).good)
    return fault_after_boot(layout, expected, had_good, _sound)[0]


def _sound(layout: Layout, current: str) -> str:
    """The verifier has looked at the release; here that the installer is one."""
    whole = (layout.agent / "edgevla" / "install" / "agent.py").is_file() and layout.launcher.is_file()
    return "" if whole else "the installer is not there"
