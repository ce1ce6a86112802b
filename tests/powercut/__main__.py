"""Power cut at every mutating call of the installer.

    python -m tests.powercut [--chapter upgrade] [--kills 200] [--json] [-o bench/results/powercut.json]

Records install, upgrades, refused ones, rollback, clean-up, new settings and a trust update with strace. For every
prefix of the mutating calls, and every state that lost unsynced writes allow (tests/powercut/states.py), the tree is
laid out again, the real boot selector is run on it, twice, and what is current then is judged (tests/powercut/boot.py).
Then SIGKILL for real: at every call that changes a name which decides what runs (tests/powercut/kills.py), and at as
many others as --kills says. Exit code 0: no release was lost; 1: one was; 3: strace is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.install.state import parse_state
from edgevla.telemetry.host import describe_host
from tests.powercut import trace
from tests.powercut.aim import Sights
from tests.powercut.boot import Expected
from tests.powercut.judge import SCRATCH, Judge, whole
from tests.powercut.kills import Killed, carry_out, planned
from tests.powercut.model import ROOT, Disk, Image, bytes_of, image
from tests.powercut.replay import Replay
from tests.powercut.scenario import Chapter, Robot, environment
from tests.powercut.states import states
from tests.powercut.trace import Call
from tests.powercut.trees import Trees


@dataclass
class Tally:
    """Of one chapter. `kills_met`: of the calls of the commit phase, those that were killed at the very call."""

    chapter: str
    calls: int = 0
    states: int = 0
    distinct: int = 0
    boots: int = 0
    kills: int = 0
    commit_calls: int = 0
    kills_met: int = 0
    lost: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chapter", default="", help="only chapters whose name begins so (those before are played)")
    parser.add_argument("--every", type=int, default=1, help="only every n-th prefix")
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs at other calls, in all")
    parser.add_argument("--jobs", type=int, default=2, help="kills at a time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    if shutil.which("strace") is None:
        print("error: strace is not installed: apt-get install strace", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="powercut-", dir=_memory()) as folder:
        began = time.monotonic()
        tallies = play(Path(folder), asked.chapter, asked.every, asked.kills, asked.jobs, asked.json)
        result = summary(tallies, time.monotonic() - began)
    if asked.out is not None:
        write_json(asked.out, result)
    if asked.json:
        print(json.dumps(result, indent=1))
    else:
        print("{calls} calls, {points} states, {kills} kills: {releases_lost} releases lost".format(**result))
    return int(bool(result["releases_lost"]))


def _memory() -> str | None:
    """A file system in memory, where there is one that programs may be started from: what counts is in the trace."""
    shared = "/dev/shm"
    usable = os.path.isdir(shared) and not os.statvfs(shared).f_flag & os.ST_NOEXEC
    return shared if usable and shutil.disk_usage(shared).free > 1 << 30 else None


def summary(tallies: list[Tally], seconds: float) -> dict[str, Any]:
    return {
        "calls": sum(one.calls for one in tallies),
        "points": sum(one.states for one in tallies),
        "distinct_trees": sum(one.distinct for one in tallies),
        "boots": sum(one.boots for one in tallies),
        "kills": sum(one.kills for one in tallies),
        "releases_lost": sum(len(one.lost) for one in tallies),
        "chapters": [asdict(one) for one in tallies],
        "seconds": round(seconds, 1),
        "host": describe_host(),
    }


def play(folder: Path, only: str, every: int, kills: int, jobs: int, quiet: bool) -> list[Tally]:
    """Chapter by chapter; the kills of one go on beside the states of the next."""
    robot = Robot(folder)
    chapters = robot.chapters()
    robot.provision()
    found = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for number, chapter in enumerate(chapters):
            if chapter.name.startswith(only):
                others = -(-kills // len(chapters))
                found.append(proved(robot, chapter, folder / f"before-{number}", every, others, pool))
                if not quiet:
                    say_states(found[-1][0])
            else:
                traced(robot, chapter)
        robot.stop()
        for tally, waiting in found:
            take_in(tally, [kill.result() for kill in waiting])
            if not quiet:
                say_kills(tally)
    return [tally for tally, _ in found]


def say_states(tally: Tally) -> None:
    """One line, and the first losses."""
    told = f"{tally.calls} calls, {tally.states} states, {tally.distinct} distinct, {tally.boots} boots"
    print(f"{tally.chapter}: {told}, {len(tally.lost)} lost", flush=True)
    for line in tally.lost[:5]:
        print(f"  {line}", flush=True)


def say_kills(tally: Tally) -> None:
    """One line, and the first losses."""
    told = f"{tally.kills} kills, {tally.kills_met} of {tally.commit_calls} calls of the commit phase met"
    lost = [line for line in tally.lost if line.startswith("killed")]
    print(f"{tally.chapter}: {told}, {len(lost)} lost", flush=True)
    for line in lost[:5]:
        print(f"  {line}", flush=True)


def take_in(tally: Tally, kills: list[Killed]) -> None:
    """What the kills of a chapter came to."""
    tally.kills = sum(one.killed for one in kills)
    tally.commit_calls = sum(one.committing for one in kills)
    tally.kills_met = sum(one.committing and one.met for one in kills)
    tally.lost += [one.lost for one in kills if one.lost]


def proved(
    robot: Robot, chapter: Chapter, before: Path, every: int, others: int, pool: ProcessPoolExecutor
) -> tuple[Tally, list[Future[Killed]]]:
    """Played once under strace; the kills begin; then every state of every prefix."""
    shutil.copytree(robot.layout.prefix, before, symlinks=True)
    expected = robot.expected(chapter)
    replay, sights = traced(robot, chapter)
    robot.stop()
    kills = planned(robot, chapter, replay, sights, before, expected, others) if others else []
    waiting = [pool.submit(carry_out, kill, robot.folder) for kill in kills]
    work = robot.folder / "work"
    tally = judged(robot, chapter, replay, expected, work, every)
    shutil.rmtree(work)
    return tally, waiting


def traced(robot: Robot, chapter: Chapter) -> tuple[Replay, Sights]:
    """The chapter for real. Raises AssertionError where the model is not what lies there in the end."""
    replay, expected = Replay(robot.layout.prefix, Path.cwd()), robot.expected(chapter)
    replay.load(robot.layout.prefix)
    path = robot.folder / "trace"
    code = trace.record(robot.command(chapter), path, environment())
    robot.check(chapter, code, expected)
    replay.feed(trace.read(path))
    trees = Trees(replay.disk)
    modelled = trees.digest(image(replay.disk, range(len(replay.disk.operations))), ROOT, SCRATCH)
    there = Replay(robot.layout.prefix, Path.cwd())
    there.load(robot.layout.prefix)
    lies = Trees(there.disk).digest(image(there.disk, range(len(there.disk.operations))), ROOT, SCRATCH)
    assert modelled == lies, f"{chapter.name}: the model is not what lies there"
    return replay, Sights(path)


def judged(robot: Robot, chapter: Chapter, replay: Replay, expected: Expected, work: Path, every: int) -> Tally:
    """Every prefix of the chapter's calls, every state of each, at the very path that the releases know."""
    prefix, aside = robot.layout.prefix, robot.layout.prefix.with_name("after")
    prefix.rename(aside)
    trees = Trees(replay.disk)
    judge = Judge(trees, whole(replay, "releases"), whole(replay, "agent"), prefix, work)
    tally = Tally(chapter.name, calls=len(replay.mutating))
    for index, end in enumerate(replay.ends):
        if index % every:
            continue
        had_good = False
        for number, state in enumerate(states(trees, end, SCRATCH)):
            found = trees.image(end, state.lost, state.torn)
            if number == 0:  # everything that may be lost is: a release that is good here is good for certain
                had_good = is_any_good(replay.disk, found)
            lost = judge.judge(found, expected, had_good)
            tally.states += 1
            if lost:
                tally.lost.append(f"after call {index + 1}, {told(replay.mutating[index], prefix)}: {lost}"[:600])
    tally.distinct, tally.boots = judge.distinct, judge.boots
    aside.rename(prefix)
    return tally


def told(call: Call, prefix: Path) -> str:
    """A call for a person: its name and its paths within the prefix."""
    inside = [trace.unhex(text).partition(f"{prefix}/")[2].rstrip('">') for text in call.arguments[:2]]
    return " ".join([call.name, *filter(None, inside)])


def is_any_good(disk: Disk, found: Image) -> bool:
    """Whether state.json of this image names a good release."""
    inode = found.folders.get(ROOT, {}).get("state.json")
    return inode is not None and bool(parse_state(bytes_of(disk, found, inode)).good)


if __name__ == "__main__":
    sys.exit(main())
