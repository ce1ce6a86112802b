"""When a path has become slower. Pure.

Slower: the whole interval of head / base lies above 1 + tolerance, while the control, base against base in the same
rounds, stays within the tolerance. Where the control does not, nothing is said of the path. Both are only believed
when a second look, in new processes, says the same: how a process lies in memory alone is worth some per cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from bench.pairs.rounds import BASE, CONTROL, HEAD, Timed
from edgevla.telemetry.interleaved import Ratio, paired_ratio

TOLERANCE = 0.05  # of a pure path, in CPU time
OTHERS = 2.0  # times that of the other paths: they wait for disks, other processes, several threads
CONFIDENCE = 0.99


class Verdict(Enum):
    """What is said of a path."""

    KEPT = "kept"
    FASTER = "faster"
    SLOWER = "SLOWER"
    UNSOUND = "not sound"
    LACKING = "only here"  # base has no such path
    ABSENT = "not here"  # nor has this tree, with this bundle


@dataclass(frozen=True)
class Outcome:
    """One path. Ratios are of times: above 1 is slower than base."""

    path: str
    verdict: Verdict
    tolerance: float = 0.0
    ratio: Ratio | None = None
    control: Ratio | None = None
    why: str = ""
    looks: int = 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        ratios = {"ratio": self.ratio, "control": self.control}
        told = {name: None if one is None else one.as_dict() for name, one in ratios.items()}
        plain = {"path": self.path, "verdict": self.verdict.name.lower(), "tolerance": self.tolerance}
        return {**plain, **told, "why": self.why, "looks": self.looks}


def outcome(timed: Timed, tolerance: float = TOLERANCE) -> Outcome:
    """The verdict of one look."""
    if timed.lacks:
        return Outcome(timed.path, Verdict.ABSENT if timed.ours else Verdict.LACKING, why=timed.lacks)
    allowed = tolerance if timed.pure else OTHERS * tolerance
    ratio = paired_ratio(timed.ns[HEAD], timed.ns[BASE], HEAD, BASE, confidence=CONFIDENCE)
    control = paired_ratio(timed.ns[CONTROL], timed.ns[BASE], CONTROL, BASE, confidence=CONFIDENCE)
    return Outcome(timed.path, _verdict(ratio, control, allowed), allowed, ratio, control)


def _verdict(ratio: Ratio, control: Ratio, tolerance: float) -> Verdict:
    if not (1.0 / (1.0 + tolerance) <= control.low and control.high <= 1.0 + tolerance):
        return Verdict.UNSOUND
    if ratio.low > 1.0 + tolerance:
        return Verdict.SLOWER
    return Verdict.FASTER if ratio.high < 1.0 / (1.0 + tolerance) else Verdict.KEPT


def doubtful(outcomes: Sequence[Outcome]) -> list[str]:
    """Paths that are looked at again."""
    return [one.path for one in outcomes if one.verdict in (Verdict.SLOWER, Verdict.UNSOUND)]


def settled(first: Outcome, second: Outcome) -> Outcome:
    """Of two looks at a doubtful path: the second, and where one says slower and the other nothing, not sound."""
    disagree = {first.verdict, second.verdict} == {Verdict.SLOWER, Verdict.UNSOUND}
    return replace(second, verdict=Verdict.UNSOUND if disagree else second.verdict, looks=2)
