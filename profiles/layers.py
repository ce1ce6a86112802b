"""`extends`: a file on top of another one, and which of them said what.

A value or a list of the upper file takes the place of the lower one's; a table is merged key by key. What only the file
itself can say (OWN) is not inherited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from profiles.files import HERE, find, is_path, read, refuse, shipped
from profiles.keys import Keys, line_of
from profiles.keys import Path as KeyPath
from profiles.strict import Table

EXTENDS = "extends"
OWN = ("name", "description", "measured", "modules")  # `measured`: another file's measurement is none of this one
MOST = 5  # files on top of each other


@dataclass(frozen=True)
class Layer:
    """One file of a chain."""

    path: Path
    text: str
    data: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name under which it is shipped, else its path."""
        return self.path.stem if self.path.parent == HERE / "targets" else str(self.path)

    @property
    def file(self) -> str:
        """Its path; of a shipped one, from the package on."""
        return f"profiles/{self.path.relative_to(HERE)}" if self.path.is_relative_to(HERE) else str(self.path)

    def place(self, at: KeyPath, key: str) -> str:
        """The file, with the line that sets the key where it is found."""
        line = self.line(at, key)
        return f"{self.file}{'' if line is None else f', line {line}'}"

    def line(self, at: KeyPath, key: str) -> int | None:
        """The line that sets the key, or the first header of the table or list of that name."""
        return line_of(self.text, at, key) or _header_line(self.text, ".".join(map(str, (*at, key))))


@dataclass(frozen=True)
class Origin:
    """Where a value of a profile comes from: a file, or nowhere (then it is the default)."""

    key: str
    file: str
    line: int | None


def read_chain(path: Path) -> tuple[Layer, ...]:
    """The file and those that it extends, itself first. Raises ProfileError, also for a circle or a tower of them."""
    chain = [_read_layer(path)]
    while EXTENDS in chain[-1].data:
        below = _parent(chain[-1])
        names = " -> ".join([*(layer.label for layer in chain), _label(below)])
        if below.resolve() in [layer.path.resolve() for layer in chain]:
            _refuse_extends(chain[-1], "a profile that does not lead back to this one", names)
        if len(chain) == MOST:
            _refuse_extends(chain[-1], f"{MOST} files on top of each other at most", names)
        chain.append(_read_layer(below))
    return tuple(chain)


def merge(chain: Sequence[Layer]) -> dict[str, Any]:
    """What the chain says as a whole, without `extends`."""
    found: dict[str, Any] = {}
    for layer in reversed(chain):
        inherited = {key: value for key, value in found.items() if key not in OWN}
        found = _over(inherited, {key: value for key, value in layer.data.items() if key != EXTENDS})
    return found


def owner(chain: Sequence[Layer], at: KeyPath, key: str) -> Layer | None:
    """The file that sets this key of this table, None where none does."""
    whole = (*at, key)
    for depth, layer in enumerate(chain):
        if depth and whole[0] in OWN:
            return None
        found = _look(layer.data, whole)
        if found is not None:
            return layer if found else None
    return None


def origins(chain: Sequence[Layer], keys: Keys) -> list[Origin]:
    """For each key of the profile, and each key of a merged table, the file and line that set it."""
    data = merge(chain)
    return [origin for name in keys.names for origin in _origins(chain, data, (), name)]


def _origins(chain: Sequence[Layer], data: Mapping[str, Any], at: KeyPath, key: str) -> Iterator[Origin]:
    value = data.get(key)
    if isinstance(value, dict) and value:
        for inside in value:
            yield from _origins(chain, value, (*at, key), inside)
        return
    layer = owner(chain, at, key)
    dotted = ".".join(map(str, (*at, key)))
    if layer is None:
        yield Origin(dotted, "", None)
    else:
        yield Origin(dotted, layer.label, layer.line(at, key))


def _header_line(text: str, dotted: str) -> int | None:
    """Line of the first `[key]`, `[[key]]` or `[key.inside]`."""
    header = re.compile(rf"\s*\[\[?\s*{re.escape(dotted)}\s*[.\]]")
    return next((number for number, line in enumerate(text.splitlines(), 1) if header.match(line)), None)


def _read_layer(path: Path) -> Layer:
    text, data = read(path)
    return Layer(path, text, data)


def _parent(layer: Layer) -> Path:
    """The file that a layer extends: a shipped target, or a path relative to the file that names it."""
    name = layer.data[EXTENDS]
    if isinstance(name, str) and name in shipped("target"):
        return find("target", name)
    if not isinstance(name, str) or not is_path(name):
        _refuse_extends(layer, f"one of {', '.join(shipped('target'))}, or a path to a .toml file", repr(name))
    path = layer.path.parent / name
    if not path.is_file():
        _refuse_extends(layer, "a shipped target, or a file, relative to this one", f"no file {path}")
    return path


def _refuse_extends(layer: Layer, expected: str, got: str) -> NoReturn:
    refuse(f"{layer.place((), EXTENDS)}: `{EXTENDS}` is wrong", expected, got, Table.todo)


def _label(path: Path) -> str:
    return path.stem if path.parent == HERE / "targets" else str(path)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = _over(below[key], value) if both else value
    return merged


def _look(data: Any, path: KeyPath) -> bool | None:
    """True: it is here. False: this file decided it otherwise, with another list or value above it. None: not said."""
    value, settled = data, None
    for part in path:
        if isinstance(value, dict):
            if part not in value:
                return settled
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value, settled = value[part], False
        else:
            return False
        if isinstance(value, list):
            settled = False
    return True
