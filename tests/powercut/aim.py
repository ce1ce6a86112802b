"""How strace is told to kill at one call of one process and at no other: by name, path and count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.powercut.trace import Call, unhex

_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*)$")
_DESCRIPTOR = re.compile(r"\d+<([^<>]*)>")
_QUOTED = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
# Names that are others in each run: in staging/.waste, and of compiled Python until it is whole.
_TOKEN = re.compile(r"\.[0-9a-f]{8}(?=/|$)|(?<=\.pyc)\.\d+$")
_WITH_DATA = ("write", "pwrite64")  # their string is no path


@dataclass(frozen=True)
class Aim:
    """The nth call `name` of a process that concerns one of `paths`, () any. `exact`: in the recorded run no other
    process reached that count before the one that is meant."""

    name: str
    paths: tuple[str, ...]
    nth: int
    exact: bool


class Sights:
    """Every call in a trace, those that failed too: strace counts them."""

    def __init__(self, trace: Path) -> None:
        self._calls: dict[str, list[tuple[int, frozenset[str]]]] = {}  # by name, as they began: (process, paths)
        with trace.open(encoding="latin-1") as lines:
            for line in lines:
                match = _BEGUN.match(line)
                if match is not None:
                    paths = frozenset(paths_of(match[2], match[3]))
                    self._calls.setdefault(match[2], []).append((int(match[1]), paths))

    def aim(self, call: Call, prefix: Path) -> Aim:
        """By its path if that meets the right process; else by this and all earlier paths of its process, else by the
        count alone. Paths outside the prefix and those with a name that is another one in each run do not count."""
        mine = [paths for pid, paths in self._calls[call.name] if pid == call.pid][: call.nth]
        own = {path for path in mine[-1] if _is_stable(path, prefix)}
        earlier = {path for paths in mine for path in paths if _is_stable(path, prefix)}
        for paths in (*({path} for path in sorted(own)), *([own | earlier] if own else []), set[str]()):
            nth = sum(1 for found in mine if not paths or found & paths)
            if self._first(call.name, paths, nth) == call.pid:
                return Aim(call.name, tuple(sorted(paths)), nth, True)
        return Aim(call.name, (), call.nth, False)

    def _first(self, name: str, paths: set[str], nth: int) -> int:
        """The process that reaches that count first."""
        counts: dict[int, int] = {}
        for pid, found in self._calls[name]:
            if not paths or found & paths:
                counts[pid] = counts.get(pid, 0) + 1
                if counts[pid] == nth:
                    return pid
        return -1


def _is_stable(path: str, prefix: Path) -> bool:
    return f"{path}/".startswith(f"{prefix}/") and not _TOKEN.search(path)


def paths_of(name: str, arguments: str) -> Iterator[str]:
    """Absolute paths among the arguments of a call, and those behind its descriptors: those by which strace -P selects.

    Of a rename that is the first."""
    head = arguments.partition(" = ")[0]
    for match in _DESCRIPTOR.finditer(head):
        yield unhex(match[1])
    texts = [unhex(match[1]) for match in _QUOTED.finditer(head)] if name not in _WITH_DATA else []
    yield from [path for path in texts if path.startswith("/")][: 1 if name == "rename" else None]


def plain_paths(call: Call) -> list[str]:
    """Of a recorded call, as `met` compares them."""
    return [_TOKEN.sub("", path) for path in paths_of(call.name, ", ".join(call.arguments))]


def met(line: str, name: str, wanted: list[str]) -> bool:
    """Whether the line of a call that was killed is that call, but for names that are others in each run."""
    match = _BEGUN.match(line)
    return match is not None and match[2] == name and [_TOKEN.sub("", p) for p in paths_of(name, match[3])] == wanted
