"""Which episodes and frames of a record are looked at, and what can be said of their being held out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, Usage, explain
from export.data.interface import HELD_EVERY, held_out
from export.eval.record import Record

Int64 = npt.NDArray[np.int64]
SHARE = 0.1  # of too few episodes
KEPT_OUT = "`edgevla compress` of this dataset never trains on them; the teacher itself may have been trained on them"
TRAINED_ON = f"fewer than {HELD_EVERY} episodes: a bundle that was compressed from this data was trained on these too"
AS_SAID = "held out is what you say it is: a bundle does not record which episodes it was trained on"


@dataclass(frozen=True)
class Selection:
    """Episodes taken from a record, by number, how that was said, and what it means."""

    numbers: tuple[int, ...]
    said: str
    note: str


def select(record: Record, episodes: str = "", share: float | None = None) -> Selection:
    """Episodes named as `0-9,12`, or the last share of each instruction's, or those that `edgevla compress` keeps out.

    Raises:
        Usage: no list of numbers, a share outside (0, 1], or both.
        BadInput: a number the record does not have.
    """
    if episodes and share is not None:
        raise Usage(explain("--episodes and --held-out", "one of them", "both", "name episodes, or give a share"))
    if episodes:
        return Selection(_numbers(episodes, len(record.episodes)), f"episodes {episodes}", AS_SAID)
    if share is not None:
        if not 0 < share <= 1:
            raise Usage(explain("--held-out", "a share in (0, 1], such as 0.1", share, "or name --episodes"))
        return Selection(_last(record, share), _said(share), AS_SAID)
    kept = _kept_out(record)
    if kept:
        return Selection(kept, f"the first of every {HELD_EVERY} episodes", KEPT_OUT)
    return Selection(_last(record, SHARE), _said(SHARE), TRAINED_ON)


def _kept_out(record: Record) -> tuple[int, ...]:
    held = held_out(np.array([first for first, _ in record.episodes], np.int64))
    return tuple(np.flatnonzero(held).tolist())


def _said(share: float) -> str:
    return f"the last {100 * share:g} % of the episodes of each instruction"


def _last(record: Record, share: float) -> tuple[int, ...]:
    groups: dict[str, list[int]] = {}
    for number, (first, _) in enumerate(record.episodes):
        groups.setdefault(record.instruction(first), []).append(number)
    return tuple(sorted(n for group in groups.values() for n in group[-max(1, round(share * len(group))) :]))


def _numbers(text: str, count: int) -> tuple[int, ...]:
    try:
        ends = [(part.split("-")[0], part.split("-")[-1]) for part in text.split(",")]
        numbers = sorted({n for low, high in ends for n in range(int(low), int(high) + 1)})
    except ValueError as error:
        raise Usage(explain("--episodes", "numbers and ranges such as 0-9,12", text, "count from 0")) from error
    if not numbers or numbers[-1] >= count or numbers[0] < 0:
        raise BadInput(explain("--episodes", f"numbers from 0 to {count - 1}", text, "count from 0"))
    return tuple(numbers)


def frames_of(record: Record, selection: Selection, ahead: int, count: int) -> Int64:
    """Ticks spread evenly over the selected episodes, each with `ahead` ticks after it in its episode.

    Raises:
        BadInput: the selected episodes are all shorter than that.
    """
    ticks = [np.arange(first, end - ahead) for first, end in (record.episodes[n] for n in selection.numbers)]
    free = np.concatenate([np.asarray(part, np.int64) for part in ticks])
    if not free.size:
        raise BadInput(explain("selected episodes", f"longer than {ahead} ticks", "none is", "select others"))
    picked = np.linspace(0, free.size - 1, min(count, free.size)).round().astype(np.int64)
    chosen: Int64 = free[np.unique(picked)]
    return chosen
