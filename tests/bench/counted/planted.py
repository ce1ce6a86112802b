"""The same paths; the first has a tenth more to do."""

from __future__ import annotations

from bench.suites.paths import HotPath, Made, Place
from tests.bench.counted import plain


def _more(place: Place) -> Made:
    return Made(lambda: sum(plain.NUMBERS) + sum(plain.NUMBERS[:10]) - 45, lambda found: found == 4950)


def all_paths() -> list[HotPath]:
    return [HotPath("tests/sum", _more, pure=True), *plain.all_paths()[1:]]
