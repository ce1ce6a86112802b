"""Two paths as they are."""

from __future__ import annotations

from bench.suites.paths import HotPath, Made, Paths, Place

PATHS = Paths()
NUMBERS = list(range(100))


@PATHS.add("tests/sum", pure=True)
def _sum(place: Place) -> Made:
    return Made(lambda: sum(NUMBERS), lambda found: found == 4950)


@PATHS.add("tests/sorted", pure=True)
def _sorted(place: Place) -> Made:
    return Made(lambda: sorted(NUMBERS, key=lambda n: -n), lambda found: found[0] == 99)


@PATHS.add("tests/not counted")
def _impure(place: Place) -> Made:
    raise AssertionError("a path that is not pure is not made ready")


def all_paths() -> list[HotPath]:
    return PATHS.found
