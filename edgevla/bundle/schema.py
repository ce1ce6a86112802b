"""JSON from outside, read strictly: no NaN, no key said twice, no key unknown, no key missing."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, NoReturn

from edgevla.errors import BadInput, explain
from profiles.strict import Table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class JsonTable(Table):
    """A JSON object of a bundle; its errors are BadInput."""

    error: ClassVar[type[Exception]] = BadInput
    todo: ClassVar[str] = "get the bundle again from where it was made, or export it again"

    def keys(self) -> list[str]:
        """Every key, in the order of the file."""
        return list(self._data)

    def name(self, key: str) -> str:
        value = self.text(key)
        if not _NAME.fullmatch(value):
            self.fail(key, "a name of letters, digits, '.', '_', '-'", repr(value))
        return value

    def sha256(self, key: str) -> str:
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            self.fail(key, "64 lower-case hexadecimal digits", repr(value))
        return value


def parse_json(raw: bytes, where: str) -> Any:
    """JSON without NaN, Infinity or a key said twice. Raises BadInput naming `where`."""

    def constant(token: str) -> NoReturn:
        raise ValueError(f"{token} is no JSON number")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(items)
        if len(table) != len(items):
            raise ValueError("a key is said twice")
        return table

    try:
        return json.loads(raw.decode("utf-8"), parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise BadInput(explain(f"{where} is not valid JSON", "UTF-8 JSON", error, JsonTable.todo)) from error
