"""A table of a profile, whose errors name file, line and key, also where another file of the chain said it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiles.keys import Path as KeyPath
from profiles.layers import Layer, owner
from profiles.strict import Table


class ProfileTable(Table):
    """`chain`: the file and those it extends; `at`: the table in it, () for the top."""

    def __init__(self, where: str, data: Any, chain: Sequence[Layer], at: KeyPath = ()) -> None:
        super().__init__(where, data)
        self._chain, self._at = chain, at

    def place(self, key: str) -> str:
        """The file and line that set the key; the file itself where it is missing."""
        layer = owner(self._chain, self._at, key)
        file = str(self._chain[0].path) if layer is None else layer.place(self._at, key)
        return f"{file}{self.where.removeprefix(str(self._chain[0].path))}"

    def inner(self, where: str, data: Any, at: KeyPath) -> ProfileTable:
        return ProfileTable(where, data, self._chain, (*self._at, *at))
