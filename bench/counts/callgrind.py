"""Callgrind's files to instructions per call. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgevla.errors import Unsound, explain

_TRIGGER = re.compile(r"^desc: Trigger: Client Request: (\d+) (\d+)$", re.MULTILINE)
_TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)
_EVENTS = re.compile(r"^events: Ir$", re.MULTILINE)


def dump(text: str) -> tuple[int, int, int] | None:
    """(number of the path, calls, instructions) of a file that a mark wrote; None for any other."""
    trigger, total = _TRIGGER.search(text), _TOTAL.search(text)
    if trigger is None or total is None or _EVENTS.search(text) is None:
        return None
    return int(trigger[1]), int(trigger[2]), int(total[1])


def per_call(names: Sequence[str], dumps: Iterable[tuple[int, int, int]]) -> dict[str, float]:
    """Instructions per call by name: the difference of two counts over the difference of their calls.

    Raises Unsound where a path was not counted with two numbers of calls, or more calls were no more instructions.
    """
    counts: dict[int, dict[int, int]] = {}
    for number, calls, instructions in dumps:
        counts.setdefault(number, {})[calls] = instructions
    return {name: _slope(name, counts.get(number, {})) for number, name in enumerate(names)}


def _slope(name: str, counts: Mapping[int, int]) -> float:
    (few, first), (many, second) = (*sorted(counts.items()), (0, 0), (0, 0))[:2]
    if len(counts) != 2 or second <= first:
        todo = "see whether valgrind runs at all: `valgrind --tool=callgrind true`"
        raise Unsound(explain(f"{name} was not counted", "two counts, the second larger", dict(counts), todo))
    return (second - first) / (many - few)
