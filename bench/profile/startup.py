"""A cold start in steps, from the stamps that its processes wrote. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from edgevla.errors import Unsound, explain

GOAL_S = 3.0  # process made -> first command written, on the host
_KEYS = (
    "called", "begun", "policy_started", "policy_imported", "policy_loaded", "policy_heard", "policy_warm",
    "servo_started", "servo_connected", "armed",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One step of a start; times in seconds since the process was made."""

    process: str  # run | policy | servo
    name: str
    begin_s: float
    end_s: float

    @property
    def took_s(self) -> float:
        return self.end_s - self.begin_s


def steps(started_ns: int, start_ns: Mapping[str, int], first_ns: int, acting_ns: int | None) -> list[Step]:
    """What happened when. `first_ns`: the first command was written; `acting_ns`: the first one of a chunk.

    Raises Unsound when a stamp is missing.
    """
    missing = [key for key in _KEYS if not start_ns.get(key)]
    if missing:
        todo = "start both from one installation of edgevla"
        raise Unsound(explain("the stamps of the start", ", ".join(_KEYS), f"without {', '.join(missing)}", todo))
    at = {key: (start_ns[key] - started_ns) / 1e9 for key in _KEYS}
    first_s = (first_ns - started_ns) / 1e9
    ready_s = max(at["policy_warm"], at["servo_connected"])
    armed_s = min(at["armed"], first_s)  # heard by a busy supervisor later than it was
    found = [
        Step("run", "interpreter and imports", 0.0, at["called"]),
        Step("run", "bundle verified, contract checked", at["called"], at["begun"]),
        Step("policy", "interpreter and imports", at["policy_started"], at["policy_imported"]),
        Step("policy", "bundle verified, graphs loaded", at["policy_imported"], at["policy_loaded"]),
        Step("policy", "instruction encoded", at["policy_loaded"], at["policy_heard"]),
        Step("policy", "first frame, warm-up", at["policy_heard"], at["policy_warm"]),
        Step("servo", "interpreter, imports, arm connected", at["servo_started"], at["servo_connected"]),
        Step("run", "rehearsal judged, arm armed", min(ready_s, armed_s), armed_s),
        Step("servo", "first command written", armed_s, first_s),
    ]
    if acting_ns is not None:
        found.append(Step("servo", "first chunk released", first_s, (acting_ns - started_ns) / 1e9))
    return found


def first_commands(ticks: NDArray[Any]) -> tuple[int, int | None]:
    """When the first command was written, and the first one of a chunk. Raises Unsound where none was."""
    written = ticks[ticks["write_ns"] > 0]
    if not len(written):
        raise Unsound(explain("the cold start", "a command", "none was written", "see `edgevla run` with the same"))
    acting = written[written["chunk"] >= 0]
    return int(written["write_ns"][0]), int(acting["write_ns"][0]) if len(acting) else None


def figures(found: list[Step], cpu_ns: Mapping[str, int], goal_s: float = GOAL_S) -> dict[str, Any]:
    """Sums by kind; they add up to more than the whole, as policy and servo start beside one another.

    `cpu_ns`: what `run` and policy had spent on a core; on a busy host the clock tells of the others too.
    """

    def took(process: str, *names: str) -> float:
        return round(sum(step.took_s for step in found if step.process == process and step.name in names), 4)

    first_s = next(step.end_s for step in found if step.name == "first command written")
    acting = [step.end_s for step in found if step.name == "first chunk released"]
    return {
        "import_s": round(took("run", found[0].name) + took("policy", found[2].name), 4),
        "load_s": round(took("run", found[1].name) + took("policy", found[3].name, found[4].name), 4),
        "warm_up_s": took("policy", found[5].name),
        "connect_s": took("servo", found[6].name),
        "arming_s": took("run", found[7].name),
        "first_command_s": round(first_s, 4),
        "first_chunk_s": round(acting[0], 4) if acting else None,
        "cpu_s": {name: round(spent / 1e9, 4) for name, spent in cpu_ns.items()},
        "goal_s": goal_s,
        "kept": bool(first_s <= goal_s),
        "steps": [{**asdict(step), "took_s": round(step.took_s, 4)} for step in found],
    }
