"""Where a run meets its operator: what it shows, and from where it hears wishes. The real one is `operate.station`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from edgevla.control.memory import Memory
from edgevla.control.plan import RunPlan
from edgevla.operate.wish import Wish


@dataclass
class Course:
    """A run as it stands. Rows in `memory` are read with cursors of one's own."""

    plan: RunPlan
    memory: Memory
    instruction: str = ""
    epoch: int = 0  # of the instruction
    rest: bool = False  # the arm shall be at rest until the next instruction
    missing: tuple[str, ...] = ()  # of real-time guarantees: best effort
    torque_found: tuple[bool | None, ...] = ()  # at connect, by joint; () where a controller reports its mode
    restarts: int = 0  # of the policy process
    recorder: str = "off"  # off | recording | failed: why
    ready: bool = False  # the servo ticks, the policy answers
    ending: bool = False
    note: str = ""  # the newest message for people


class Operator(Protocol):
    """Polled by the run; nothing here may block."""

    def open(self, course: Course, halt: Callable[[], None]) -> None:
        """The run begins; `halt` asks the servo to stop at once, from a signal handler too."""

    @property
    def fds(self) -> list[int]:
        """Readable when there is something to hear."""

    def look(self) -> list[Wish]:
        """What was wished since the last look; also the moment to draw."""

    def say(self, line: str) -> None:
        """One line for people."""

    def close(self) -> None:
        """The run has ended."""


class Nobody:
    """No operator: the run arms at its start and ends by itself. `say` takes its lines."""

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self.say = say

    def open(self, course: Course, halt: Callable[[], None]) -> None:
        del course, halt

    @property
    def fds(self) -> list[int]:
        return []

    def look(self) -> list[Wish]:
        return []

    def close(self) -> None:
        """Nothing to close."""


def describe(event: str, data: dict[str, Any]) -> str:
    """A child's event in one line for people, or "" when it says nothing to them."""
    message = str(data.get("message") or "").split("\n", 1)[0]
    lines = {
        "arm-refused": f"not armed: {message}",
        "latched": f"latched ({data.get('reason')}) at tick {data.get('tick')}",
        "instruction": f"acting on {data.get('text')!r}",
        "instruction-failed": f"the policy cannot hear {data.get('text')!r}",
        "inference-failed": f"an inference failed: {message}",
        "inputs": f"observation refused: {data.get('text')}" if data.get("text") else "observations are sound again",
        "camera-stalled": f"camera {data.get('name')} stalls: no frame for {data.get('age_s')} s",
        "camera-lost": f"camera {data.get('name')} is lost: {message}",
        "camera-resumed": f"camera {data.get('name')} delivers again",
        "guardian-held": f"{data.get('why')}: the guardian holds the arm, after {data.get('took_ms', 0.0):.0f} ms",
        "guardian-failed": f"{data.get('why')}, and the guardian could not hold the arm: {message}",
        "recorder-failed": f"the flight recorder failed, the run goes on: {message}",
    }
    return lines.get(event, "")
