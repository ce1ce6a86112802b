"""Runs under callgrind: python -m bench.counts.child LIBRARY MODULE FOLDER IDLE_TYPES. Started by `bench.counts.count`.

MODULE has `all_paths()`; those that are pure are made ready and called, first a few times so that caches, free lists
and the interpreter's specialised instructions are as they stay. Each is then counted twice, with another number of
calls, so that what both have in common cancels. Nothing is said but one line of JSON: the names, in order.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench.counts.firmware import firmware_paths
from bench.counts.limits import FEW, MANY, WARM_UP
from bench.suites.paths import HotPath, Place


def main(library: str, module: str, folder: str, idle_types: str) -> None:
    marks = ctypes.CDLL(library)
    if not marks.marks_running():
        raise SystemExit("started outside valgrind: nothing would be counted")
    _number(int(idle_types))
    pure: list[HotPath] = [path for path in import_module(module).all_paths() if path.pure]
    pure += firmware_paths(marks)
    calls = [_ready(path, Path(folder)) for path in pure]
    gc.collect()
    gc.freeze()
    gc.disable()
    marks.marks_start()
    for number, call in enumerate(calls):
        _repeat(call, WARM_UP)
        for count in (FEW, MANY):
            marks.marks_zero()
            _repeat(call, count)
            marks.marks_dump(f"{number} {count}".encode())
    print(json.dumps([path.name for path in pure]))


def _number(idle_types: int) -> None:
    """A type has its number from the first look at it: whatever is loaded from here on is numbered behind these."""
    for _ in range(idle_types):
        hasattr(type("Idle", (), {}), "name")


def _ready(path: HotPath, folder: Path) -> Callable[[], object]:
    """Called once and judged: what is counted is the real thing."""
    place = Place(Path(tempfile.mkdtemp(dir=folder)), folder)
    made = path.make(place)
    if not made.right(made.call()):
        raise SystemExit(f"{path.name}: its result is wrong")
    return made.call


def _repeat(call: Callable[[], object], count: int) -> None:
    for _ in range(count):
        call()


if __name__ == "__main__":
    main(*sys.argv[1:5])
