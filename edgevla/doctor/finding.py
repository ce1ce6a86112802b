"""One line of the doctor's table, and what the table means as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEVELS = ("fail", "warn", "info", "pass")  # worst first


@dataclass(frozen=True)
class Finding:
    """`level`: 'pass', 'warn' (may cost deadlines), 'fail' (cannot hold) or 'info' (said, or not to be known).

    `found`: what is there, or why it cannot be known. `expected`: what a robot needs. `todo`: the lines to type, empty
    when there is nothing to do. Raises ValueError on another level, and where a warn or fail has no `todo`.
    """

    name: str
    level: str
    found: str
    expected: str = ""
    todo: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level {self.level!r} is none of {', '.join(LEVELS)}")
        if self.level in ("warn", "fail") and not self.todo:
            raise ValueError(f"{self.name}: a {self.level} without a line to type")


def passed(name: str, found: str, expected: str = "") -> Finding:
    """It is as it must be."""
    return Finding(name, "pass", found, expected)


def warned(name: str, found: str, expected: str, *todo: str) -> Finding:
    """It may cost deadlines."""
    return Finding(name, "warn", found, expected, todo)


def failed(name: str, found: str, expected: str, *todo: str) -> Finding:
    """A robot cannot be held with this."""
    return Finding(name, "fail", found, expected, todo)


def said(name: str, found: str, expected: str = "", *todo: str) -> Finding:
    """Good to know; nothing is judged."""
    return Finding(name, "info", found, expected, todo)


def unknown(name: str, reason: str, expected: str = "", *todo: str) -> Finding:
    """It could not be found out: never a pass."""
    return Finding(name, "info", f"not known: {reason}", expected, todo)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Fails, warnings, what is not known, passes; inside a level in the order of examination."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings of each level, worst first."""
    return {level: sum(finding.level == level for finding in findings) for level in LEVELS}


def can_hold(findings: Sequence[Finding]) -> bool:
    """False when anything failed."""
    return not any(finding.level == "fail" for finding in findings)
