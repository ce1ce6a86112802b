"""Where a run meets its operator: what is asked of it, and what it shows. The real desk is `edgevla.operate.desk`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgevla.control.plan import RunPlan
from edgevla.telemetry.rows import Rows


@dataclass(frozen=True)
class Ask:
    """One wish of the operator: 'arm', 'stop', 'quit', or 'say' with the words."""

    kind: str
    words: str = ""


@dataclass
class Course:
    """What a desk may look at while a run lasts. Rows are read with cursors of the desk's own."""

    plan: RunPlan
    ticks: Rows
    inferences: Rows
    instruction: str = ""
    epoch: int = 0
    missing: tuple[str, ...] = ()  # of real-time guarantees: best effort
    restarts: int = 0
    cameras: dict[str, str] = field(default_factory=dict)  # name -> "" or what is wrong
    recorder: str = ""  # what the flight recorder last said
    events: list[str] = field(default_factory=list)  # lines for people, oldest first


class Desk(Protocol):
    """Polled by the run; nothing here may block."""

    def open(self, course: Course, watch: Callable[[int], None]) -> None:
        """The run begins; `watch(fd)` has the run look at once when the descriptor is readable."""

    def look(self) -> list[Ask]:
        """What was asked since the last look; also the moment to draw."""

    def close(self) -> None:
        """The run has ended."""


class NoDesk:
    """Nobody is there: the run arms at its start and ends by itself."""

    def open(self, course: Course, watch: Callable[[int], None]) -> None:
        del course, watch

    def look(self) -> list[Ask]:
        return []

    def close(self) -> None:
        """Nothing to close."""


def describe(event: str, data: dict[str, Any]) -> str:
    """A child's event in one line for people, or "" when it says nothing to them."""
    lines = {
        "armed": "armed",
        "arm-refused": f"not armed: {str(data.get('message', '')).splitlines()[0] if data.get('message') else ''}",
        "latched": f"latched ({data.get('reason')}) at tick {data.get('tick')}",
        "instruction": f"acting on {data.get('text')!r}",
        "instruction-failed": f"the policy cannot hear {data.get('text')!r}",
        "inference-failed": f"an inference failed: {data.get('message')}",
        "inputs": f"observation refused: {data.get('text')}" if data.get("text") else "observations are sound again",
        "camera-stalled": f"camera {data.get('name')} stalls ({data.get('age_s')} s)",
        "camera-resumed": f"camera {data.get('name')} delivers again",
        "recorder-failed": f"the flight recorder failed: {data.get('message')}",
    }
    return lines.get(event, "")
