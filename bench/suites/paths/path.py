"""What a hot path is: a name, how to make it ready, one call of it, and what its result must be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Made(NamedTuple):
    """A path that is ready: `call` is what is measured; `right` says whether its result is the real one.

    `again`: what calls that follow a pause need first, not measured. A device's watchdog stops an arm meanwhile.
    """

    call: Callable[[], object]
    right: Callable[[Any], bool]
    again: Callable[[], object] | None = None


@dataclass
class Place:
    """Where paths are made ready. What must be closed again goes on `stack`."""

    folder: Path  # empty, for files
    bundle: Path  # of the inference and bundle paths
    index_mb: int = 100  # of content for the deploy paths
    stack: ExitStack = field(default_factory=ExitStack)


Maker = Callable[[Place], Made]


@dataclass(frozen=True)
class HotPath:
    """`pure`: no system call, no clock, no other process: its instructions can be counted. `slow`: seconds a call."""

    name: str  # SUITE/WHAT
    make: Maker
    pure: bool = False
    slow: bool = False

    @property
    def suite(self) -> str:
        return self.name.partition("/")[0]


class Paths:
    """A module's paths, in the order of their makers."""

    def __init__(self) -> None:
        self.found: list[HotPath] = []

    def add(self, name: str, pure: bool = False, slow: bool = False) -> Callable[[Maker], Maker]:
        """Decorator: the maker of path `name`."""

        def taken(make: Maker) -> Maker:
            self.found.append(HotPath(name, make, pure, slow))
            return make

        return taken
