"""The comparison of two trees: every path once, the doubtful ones twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.pairs.rounds import BASE, CONTROL, HEAD, timed
from bench.pairs.rule import TOLERANCE, Outcome, Verdict, doubtful, outcome, settled
from bench.pairs.workers import Measured, started
from edgevla.errors import Refused, Unsound, explain
from edgevla.telemetry.host import steal_s

SECONDS = 1.5  # of one path
Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """Every path's outcome, and what the host took meanwhile."""

    outcomes: list[Outcome]
    stolen_s: float | None

    def require_kept(self) -> None:
        """Raises Refused where a path is slower, Unsound where nothing can be said of one."""
        slower, unsound = (self._of(verdict) for verdict in (Verdict.SLOWER, Verdict.UNSOUND))
        if slower:
            got = ", ".join(
                f"{o.path} {o.ratio.median:.2f}x ({o.ratio.low:.2f} to {o.ratio.high:.2f})" for o in slower if o.ratio
            )
            todo = "make it as fast as base, or say in the commit why it may cost more"
            raise Refused(explain("slower than base", f"at most {1 + slower[0].tolerance:.2f}x", got, todo))
        if unsound:
            got = ", ".join(f"{o.path} {o.control.low:.2f} to {o.control.high:.2f}" for o in unsound if o.control)
            todo = "run it again when nothing else runs on this machine"
            raise Unsound(explain("base differs from itself", f"within {1 + TOLERANCE:.2f}x", got, todo))

    def _of(self, verdict: Verdict) -> list[Outcome]:
        return [one for one in self.outcomes if one.verdict is verdict]


@dataclass(frozen=True)
class Trees:
    """The two versions."""

    base: Path
    head: Path

    def by_worker(self) -> dict[str, Path]:
        return {BASE: self.base, HEAD: self.head, CONTROL: self.base}


def compare(
    trees: Trees,
    what: Measured,
    paths: Sequence[str],
    tolerance: float = TOLERANCE,
    seconds: float = SECONDS,
    seed: int = 0,
    say: Say = lambda line: None,
) -> Comparison:
    """Measure `paths` by name. Raises Unsound when a process dies."""
    before = steal_s()
    first = _look(trees, what, paths, tolerance, seconds, seed, say)
    again = doubtful(first)
    second = {one.path: one for one in _look(trees, what, again, tolerance, 2.0 * seconds, seed + 1, say)}
    after = steal_s()
    outcomes = [settled(one, second[one.path]) if one.path in second else one for one in first]
    return Comparison(outcomes, None if before is None or after is None else round(after - before, 2))


def _look(
    trees: Trees, what: Measured, paths: Sequence[str], tolerance: float, seconds: float, seed: int, say: Say
) -> list[Outcome]:
    if not paths:
        return []
    orders, found = np.random.default_rng(seed), []
    with started(trees.by_worker(), what) as workers:
        for number, path in enumerate(paths, start=1):
            found.append(outcome(timed(path, workers, orders, seconds), tolerance))
            say(f"{number} of {len(paths)}: {path}: {found[-1].verdict.value}")
    return found
