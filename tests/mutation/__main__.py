"""Mutation tests of the limiter, the send paths and the watchdog: each single fault must fail a test.

    python -m tests.mutation [--jobs 2] [--only channel.py] [--list] [--json] [-o out/mutation.json]

One process a mutant, forked from one that has imported pytest and numpy already; the changed module is put in place of
the file's before any test is imported. Survivors must stand in survivors.toml with the reason. Exit 1 when one does
not, or when one of that list is killed or gone; 3 when the tests fail without any change.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hypothesis  # noqa: F401  imported here once, not in every child
import numpy  # noqa: F401
import pytest

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.targets import TARGETS, Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
_SLOWEST = 4.0  # times the unchanged tests: then a mutant hangs, and that is noticed too
_SPARE_S = 10.0
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Job:
    target: Target
    mutant: Mutant | None  # None: unchanged

    @property
    def key(self) -> Key:
        assert self.mutant is not None
        return self.target.file, self.mutant.function, self.mutant.text, self.mutant.nth


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a syntax tree."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        self._name, self._path, self._tree = file.removesuffix(".py").replace("/", "."), str(ROOT / file), tree

    def find_spec(self, fullname: str, path: object, target: object = None) -> object:
        return importlib.util.spec_from_loader(fullname, self, origin=self._path) if fullname == self._name else None

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._path
        exec(compile(self._tree, self._path, "exec"), module.__dict__)


def start(job: Job) -> int:
    """The pid of a process that runs the job's tests; its exit status is pytest's."""
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    quiet = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(quiet, fd)
    if job.mutant is not None:
        sys.meta_path.insert(0, _Changed(job.target.file, job.mutant.tree))
    there = [test for test in job.target.tests if (ROOT / test).exists()]
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *there])))


def run(jobs: list[Job], at_once: int, limit_s: float, tell: bool) -> list[str]:
    """killed, survived or hung, of each job."""
    found = [""] * len(jobs)
    waiting, running = list(range(len(jobs))), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            index = waiting.pop(0)
            running[start(jobs[index])] = index, time.monotonic()
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            index, _ = running.pop(pid)
            found[index] = "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        for child, (index, began) in running.items():
            if time.monotonic() - began > limit_s and not found[index]:
                found[index] = "hung"
                os.killpg(child, signal.SIGKILL)
        if pid == 0:
            time.sleep(0.01)
        elif tell and sys.stderr.isatty():
            print(f"\r{sum(map(bool, found))}/{len(jobs)}", end="", file=sys.stderr)
    return found


def explained(path: Path = SURVIVORS) -> dict[Key, str]:
    """(file, function, mutant, nth) -> why. Raises ValueError for one without a reason."""
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", [])
    known = {(row["file"], row["function"], row["mutant"], row.get("nth", 1)): row["why"] for row in rows}
    for key, why in known.items():
        if len(why.split()) < 4:
            raise ValueError(f"{path}: {key} has no reason")
    return known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="targets whose path ends so")
    parser.add_argument("--list", action="store_true", help="the mutants, without running them")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-o", "--out", type=Path, default=None)
    asked = parser.parse_args()
    os.chdir(ROOT)
    targets = [target for target in TARGETS if target.file.endswith(asked.only)]
    made = {t: [Job(t, m) for m in mutants((ROOT / t.file).read_text(encoding="utf-8"), t.functions)] for t in targets}
    if asked.list:
        for job in (job for jobs in made.values() for job in jobs):
            print(*job.key, sep="  ")
        return 0
    known = {key: why for key, why in explained().items() if any(key[0] == t.file for t in targets)}
    began, survivors, table = time.monotonic(), [], []
    for target, jobs in made.items():
        tried = time.monotonic()
        if run([Job(target, None)], 1, 600.0, False) != ["survived"]:
            print(
                f"error: the tests of {target.file} fail without any change: {' '.join(target.tests)}", file=sys.stderr
            )
            return 3
        limit_s = _SLOWEST * (time.monotonic() - tried) + _SPARE_S
        verdicts = run(jobs, asked.jobs, limit_s, not asked.json)
        survivors += [job.key for job, verdict in zip(jobs, verdicts, strict=True) if verdict == "survived"]
        table.append({"file": target.file, **{v: verdicts.count(v) for v in ("killed", "hung", "survived")}})
        if not asked.json:
            print("{file}: {killed} killed, {hung} hung, {survived} survived".format(**table[-1]), flush=True)
    unexplained = [key for key in survivors if key not in known]
    gone = [key for key in known if key not in survivors]
    result = {"targets": table, "unexplained": unexplained, "explained_but_killed_or_gone": gone,
              "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        part = asked.out.with_name(asked.out.name + ".part")
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(part, asked.out)
    if asked.json:
        print(json.dumps(result, indent=1))
    else:
        for what, keys in (("survived unexplained", unexplained), ("explained, but killed or gone", gone)):
            for key in keys:
                print(f"{what}: {key[0]} {key[1]}: {key[2]} #{key[3]}")
        print(f"{result['seconds']:.0f} s")
    return 1 if unexplained or gone else 0


if __name__ == "__main__":
    sys.exit(main())
