"""Which windows are run, in which order, and what is known of them after a stop. Pure but for the file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.errors import BadInput, Usage, explain

SCHEMA = "edgevla.peers.windows/1"


@dataclass(frozen=True)
class Window:
    """One of the windows: `kind` model, loop or bus; what is measured in it."""

    kind: str
    repetition: int
    what: str  # model: its folder; loop: the contender; bus: the protocol
    threads: int = 0  # of a model
    load: str = ""  # of a loop
    about_s: float = 1.0  # how long it takes, about; corrected by what earlier ones took

    @property
    def key(self) -> str:
        return f"{self.kind} {self.what} {self.threads} {self.load} {self.repetition}"

    @property
    def alike(self) -> str:
        """Windows that take about as long."""
        return f"{self.kind} {self.what} {self.threads}"


def ordered(windows: Sequence[Window], seed: int) -> list[Window]:
    """Repetition by repetition, each in an order drawn from the seed: drift of the host hits all alike."""
    dice = random.Random(seed)
    found = []
    for repetition in sorted({window.repetition for window in windows}):
        mine = [window for window in windows if window.repetition == repetition]
        found += dice.sample(mine, len(mine))
    return found


def run(
    windows: Sequence[Window],
    measure: Callable[[Window], dict[str, Any]],
    state: Path,
    key: Mapping[str, Any],
    tell: Callable[[str], None],
    clock: Callable[[], float],
) -> dict[str, dict[str, Any]]:
    """Every window that `state` does not hold yet; the file is whole after each. Call again to go on.

    Raises BadInput when the file is of another design.
    """
    done = _read(state, key)
    for number, window in enumerate(windows, 1):
        if window.key in done:
            continue
        left = left_s([w for w in windows if w.key not in done], done)
        tell(f"window {number} of {len(windows)}: {window.what} {window.load or ''} ({left / 60:.0f} min left)")
        begun_s = clock()
        found = measure(window)
        done[window.key] = {"window": asdict(window), "took_s": round(clock() - begun_s, 1), "found": found}
        write_json(state, {"schema": SCHEMA, "key": dict(key), "done": done})
    return done


def left_s(windows: Sequence[Window], done: Mapping[str, Mapping[str, Any]]) -> float:
    """What is left takes as long as windows like it took, else as it was thought."""
    took: dict[str, list[float]] = {}
    for told in done.values():
        took.setdefault(Window(**told["window"]).alike, []).append(told["took_s"])
    return sum(max(took.get(window.alike, [window.about_s])) for window in windows)


def _read(state: Path, key: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    if not state.exists():
        return {}
    try:
        told = json.loads(state.read_text(encoding="utf-8"))
        same = told["schema"] == SCHEMA and told["key"] == json.loads(json.dumps(dict(key)))
        done = dict(told["done"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(explain(f"{state} cannot be continued", "windows of a run", error, "remove it")) from None
    if not same:
        todo = "pass the same options to go on, or --again to begin anew"
        got = f"{told['key']}"
        raise Usage(explain(f"{state} is of another run", f"{dict(key)}", got, todo))
    return done
