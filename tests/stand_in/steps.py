"""Named steps of a long proof: a line when each begins and ends, a log, the seconds, what was found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.telemetry.host import describe_host

REPO = Path(__file__).resolve().parents[2]
CACHE = REPO / "out" / "cache" / "stand_in"
SCHEMA = "edgevla.stand-in/1"


class NotHere(Exception):
    """This machine cannot run the proof; the text says why."""


class Broken(Exception):
    """A step found something else than it expected."""


@dataclass
class Steps:
    """One run: what it said, how long each step took, what was checked."""

    name: str
    log: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    checks: list[dict[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    grows: Path | None = None  # the same log line by line, for one who waits and for what a kill would take
    _began_s: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """One line on the terminal and in the log, without paths of this machine."""
        line = f"{time.monotonic() - self._began_s:7.1f} s  {self.name}  {text}".replace(str(REPO), ".")
        self._keep(line)
        print(line, flush=True)

    def note(self, text: str) -> None:
        """Lines for the log alone."""
        for line in text.replace(str(REPO), ".").splitlines():
            self._keep(f"             | {line}")

    def _keep(self, line: str) -> None:
        self.log.append(line)
        if self.grows is not None:
            with self.grows.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.say(f"{text} ...")
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.seconds[text] = round(time.monotonic() - began_s, 1)
        self.say(f"{text}: {self.seconds[text]} s")

    def check(self, what: str, expected: object, got: object, kept: bool) -> None:
        """Records a claim. Raises Broken where it does not hold."""
        row = {"what": what, "expected": str(expected), "got": str(got), "kept": "yes" if kept else "NO"}
        self.checks.append(row)
        self.say(f"  {what}: {got}" if kept else f"  {what}: expected {expected}, got {got}")
        if not kept:
            raise Broken(f"{what}: expected {expected}, got {got}")

    def result(self, verdict: str) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "proof": self.name,
            "verdict": verdict,
            "host": describe_host(),
            "seconds": {**self.seconds, "whole": round(time.monotonic() - self._began_s, 1)},
            "checks": self.checks,
            **self.facts,
        }

    def write(self, verdict: str, out: Path) -> None:
        """OUT.json and OUT.log beside it."""
        write_json(out, self.result(verdict))
        out.with_suffix(".log").write_text("\n".join(self.log) + "\n", encoding="utf-8")
