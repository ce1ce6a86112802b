"""What a person, a file or another program wants of a run. The supervisor decides what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """`REST`: slow down, stay at rest with torque on, follow no chunk until the next instruction."""

    ARM = "arm"
    STOP = "stop"  # slow down, hold, latch
    QUIT = "quit"  # stop, then end the run
    INSTRUCT = "instruct"
    REST = "rest"


@dataclass(frozen=True)
class Wish:
    """`instruction` only with INSTRUCT, its words already checked; `by` says who, for the record."""

    kind: Kind
    instruction: str = ""
    by: str = ""
