"""JSON from outside, read strictly: no key unknown, no key missing; for the rest see `edgevla.trust.strict_json`."""

from __future__ import annotations

import re
from typing import ClassVar

from edgevla.errors import BadInput
from edgevla.trust.strict_json import AGAIN
from edgevla.trust.strict_json import parse_json as parse_json
from profiles.strict import Table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class JsonTable(Table):
    """A JSON object of a bundle; its errors are BadInput."""

    error: ClassVar[type[Exception]] = BadInput
    todo: ClassVar[str] = AGAIN

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
