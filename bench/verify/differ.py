"""Two JSON values, field by field. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

RELATIVE, ABSOLUTE = 1e-9, 1e-12  # sums of floats depend on the order that a library adds in
ABSENT = "(absent)"


@dataclass(frozen=True)
class Compared:
    """How many fields were compared, and those that differ, in words."""

    fields: int
    differences: tuple[str, ...]


def compared(recomputed: Any, committed: Any) -> Compared:
    """Every field of `recomputed` (which may hold fewer than the file) against the one at its place in `committed`."""
    pairs = list(_pairs(json.loads(json.dumps(recomputed)), committed, ""))
    wrong = [
        f"{path}: {_short(is_)}, recomputed {_short(should)}" for path, should, is_ in pairs if not same(should, is_)
    ]
    return Compared(len(pairs), tuple(wrong))


def same(a: Any, b: Any) -> bool:
    """Equal; floats to the last digits but three."""
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (a, b))
    if numbers and (isinstance(a, float) or isinstance(b, float)):
        return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(a) is type(b) and bool(a == b)


def _pairs(should: Any, is_: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Leaves: path, recomputed, committed. A list of another length is one difference."""
    if isinstance(should, dict) and should:
        for key, value in should.items():
            there = is_[key] if isinstance(is_, dict) and key in is_ else ABSENT
            yield from _pairs(value, there, f"{path}.{key}" if path else str(key))
    elif isinstance(should, list) and isinstance(is_, list) and len(should) == len(is_) and should:
        for index, (a, b) in enumerate(zip(should, is_, strict=True)):
            yield from _pairs(a, b, f"{path}[{index}]")
    else:
        yield path, should, is_


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
