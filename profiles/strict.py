"""Read a table from outside key by key: missing, of the wrong type, out of bounds or unknown is an error.

Serves TOML profiles here and the JSON of bundles in `edgevla.bundle.schema`, which sets its own error class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

from firmware_bridge.errors import explain
from profiles.errors import ProfileError

_T = TypeVar("_T")
_TEXT_MAX = 400  # characters
_LARGEST = 1e300  # far above any sound number, far enough below infinity that a few may be added


class Table:
    """One table; `where` names it in every error. Finish with `nothing_left`."""

    error: ClassVar[type[Exception]] = ProfileError
    todo: ClassVar[str] = "correct the file; `edgevla profiles show` prints one that is right"

    def __init__(self, where: str, data: Any) -> None:
        self.where = where
        self._data: dict[str, Any] = data
        self._read: set[str] = set()
        if not isinstance(data, dict):
            self._refuse(f"{where} is wrong", "a table", type(data).__name__, self.todo)

    def fail(self, key: str, expected: object, got: object, todo: str | None = None) -> NoReturn:
        """Raise the one error about `key`."""
        self._refuse(f"{self.place(key)}: `{key}` is wrong", expected, got, todo or self.todo)

    def place(self, key: str) -> str:
        """Where the key stands, or would: a table that knows lines says them."""
        del key
        return self.where

    def inner(self, where: str, data: Any, at: tuple[str | int, ...]) -> Table:
        """A table inside this one, at that path."""
        del at
        return type(self)(where, data)

    def _wrong(self, key: str, expected: str, value: object) -> NoReturn:
        """`fail` about the value as the file has it: text in quotes, so that "1" is told from 1."""
        self.fail(key, expected, repr(value))

    def _refuse(self, what: str, expected: object, got: object, todo: str) -> NoReturn:
        shown = got if isinstance(got, str) else repr(got)
        raise self.error(explain(what, expected, shown[:200], todo))

    def has(self, key: str) -> bool:
        """Whether the file sets the key: for those that it may leave out."""
        return key in self._data

    def raw(self, key: str, expected: str) -> Any:
        self._read.add(key)
        if key not in self._data:
            self.fail(key, expected, "nothing: the key is missing")
        return self._data[key]

    def text(self, key: str, choices: tuple[str, ...] = ()) -> str:
        expected = f"one of {', '.join(choices)}" if choices else f"text of 1 to {_TEXT_MAX} characters"
        value = self.raw(key, expected)
        if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX or (choices and value not in choices):
            self._wrong(key, expected, value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.raw(key, "a list of text")
        sound = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
        if not sound or not value:
            self._wrong(key, "a list of text", value)
        return tuple(value)

    def number(self, key: str, low: float = -_LARGEST, high: float = _LARGEST) -> float:
        return self._finite(key, self.raw(key, "a number"), low, high)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        value = self.raw(key, f"{count} numbers")
        if not isinstance(value, list) or len(value) != count:
            self._wrong(key, f"a list of {count} numbers", value)
        return tuple(self._finite(key, item, -_LARGEST, _LARGEST) for item in value)

    def _finite(self, key: str, value: Any, low: float, high: float) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:  # never true of NaN
            self._wrong(key, f"a finite number in [{low}, {high}]", value)
        return float(value)

    def whole(self, key: str, low: int, high: int) -> int:
        value = self.raw(key, "a whole number")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self._wrong(key, f"a whole number in [{low}, {high}]", value)
        return value

    def truth(self, key: str) -> bool:
        value = self.raw(key, "true or false")
        if not isinstance(value, bool):
            self._wrong(key, "true or false", value)
        return value

    def plain(self, key: str) -> float | int | str | bool:
        """A number, a text or a truth: for tables whose keys somebody else knows."""
        value = self.raw(key, "a number, a text, true or false")
        if isinstance(value, bool):
            return value
        return self.text(key) if isinstance(value, str) else value if isinstance(value, int) else self.number(key)

    def names(self) -> list[str]:
        """What the file sets."""
        return list(self._data)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.raw(key, "a table")
        if not isinstance(value, dict):
            self._wrong(key, "a table", value)
        return value

    def one(self, key: str, build: Callable[[Any], _T]) -> _T:
        """A table inside, read to its last key by `build`."""
        return self._inside(f"{self.where}: {key}", self.mapping(key), build, (key,))

    def each(self, key: str, build: Callable[[Any], _T], most: int = 256, least: int = 1) -> tuple[_T, ...]:
        """A list of `least` to `most` tables whose values have distinct names."""
        value = self.raw(key, "a list of tables")
        if not isinstance(value, list) or not least <= len(value) <= most:
            self._wrong(key, f"a list of {least} to {most} tables", value)
        built = tuple(self._inside(f"{self.where}: {key}[{i}]", item, build, (key, i)) for i, item in enumerate(value))
        names = [getattr(item, "name", i) for i, item in enumerate(built)]
        if len(set(names)) != len(names):
            self.fail(key, "names that differ", names)
        return built

    def _inside(self, where: str, data: Any, build: Callable[[Any], _T], at: tuple[str | int, ...]) -> _T:
        table = self.inner(where, data, at)
        value = build(table)
        table.nothing_left()
        return value

    def nothing_left(self) -> None:
        """Every key was read; an unknown one is most often a misspelt one."""
        unknown = sorted(set(self._data) - self._read)
        if unknown:
            self.fail(unknown[0], f"only known keys: {', '.join(sorted(self._read))}", "an unknown key")
