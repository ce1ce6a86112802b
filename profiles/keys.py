"""Keys that no profile has: found before anything else is judged, as a misspelt key is why another one is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from profiles.model import (
    ArmProfile,
    CameraSpec,
    Cartesian,
    ChainJoint,
    Channel,
    GpuWheel,
    Motor,
    PowerMode,
    StateChannel,
    Target,
)

Path = tuple[str | int, ...]  # ("channels", 2, "motor"): table of a file
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-]+)\s*\]\]?")


@dataclass(frozen=True)
class Keys:
    """The keys of a table are the fields of what is made of it; `inside`: of the tables in it."""

    of: type
    inside: Mapping[str, Keys] = field(default_factory=dict)
    also: tuple[str, ...] = ()  # keys of the file that are no fields

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.also, *(item.name for item in fields(self.of)))


TARGET = Keys(Target, {"power_modes": Keys(PowerMode), "gpu_wheel": Keys(GpuWheel)}, ("extends",))
ARM = Keys(
    ArmProfile,
    {
        "channels": Keys(Channel, {"motor": Keys(Motor)}),
        "state": Keys(StateChannel),
        "cameras": Keys(CameraSpec),
        "cartesian": Keys(Cartesian, {"joints": Keys(ChainJoint)}),
    },  # `options` is read by the driver
)
_ONLY_TARGET = set(TARGET.names) - set(ARM.names)
_ONLY_ARM = set(ARM.names) - set(TARGET.names)


def kind_of(data: Mapping[str, Any]) -> str:
    """'arm' or 'target', by the keys that only one of them has; '' where there is none."""
    arm, target = len(_ONLY_ARM & data.keys()), len(_ONLY_TARGET & data.keys())
    return "arm" if arm > target else "target" if target else ""


def unknown(data: Mapping[str, Any], keys: Keys, at: Path = ()) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Each unknown key, in the order of the file: its table, its name, and the keys that this table may still have."""
    for key, value in data.items():
        if key not in keys.names:
            yield at, key, tuple(name for name in keys.names if name not in data)
        elif key in keys.inside:
            yield from _unknown_inside(value, keys.inside[key], (*at, key))


def _unknown_inside(value: Any, keys: Keys, at: Path) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    tables = [(at, value)] if isinstance(value, dict) else []
    if isinstance(value, list):
        tables = [((*at, i), item) for i, item in enumerate(value) if isinstance(item, dict)]
    for where, table in tables:
        yield from unknown(table, keys, where)


def place(at: Path) -> str:
    """A table as its header in the file: `[[channels]]`, `[channels.motor]`; '' for the top."""
    header = ".".join(part for part in at if isinstance(part, str))
    return header and (f"[[{header}]]" if isinstance(at[-1], int) else f"[{header}]")


def line_of(text: str, at: Path, key: str) -> int | None:
    """Number of the line that sets `key` in that table, from 1; None where it is not found (a text of many lines)."""
    written = re.compile(rf"(?<![\w.\-]){re.escape(key)}[\"']?\s*=")
    here: Path = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here = _opened(header[1], header[2], counts)
        elif here == at[: len(here)] and written.search(line) and _on_the_way(line, at[len(here) :]):
            return number
    return None


def _opened(brackets: str, name: str, counts: dict[str, int]) -> Path:
    """The table that a header opens; `counts`: last number of each list of tables."""
    if brackets == "[[":
        counts[name] = counts.get(name, -1) + 1
    path: list[str | int] = []
    parts = name.split(".")
    for i, part in enumerate(parts, 1):
        path.append(part)
        if (number := counts.get(".".join(parts[:i]))) is not None:
            path.append(number)
    return tuple(path)


def _on_the_way(line: str, rest: Path) -> bool:
    """Whether a table inside a line, `motor = { ... }`, is the one looked for."""
    return all(re.search(rf"(?<![\w\-]){part}\s*[=.]", line) for part in rest if isinstance(part, str))
