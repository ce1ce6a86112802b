"""Before arming: does this host keep the servo's rate? Disarmed steps run at the same rate and are counted. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgevla.errors import Refused, explain

_LEAST_S = 0.5  # s of disarmed steps before the first arming
_LEAST_STEPS = 40
_LATE_SHARE = 0.05  # of the steps may wake more than Ts / 2 after their deadline, or be overslept


@dataclass
class Rehearsal:
    """Steps without a command. A step that wakes more than Ts / 2 after its deadline is late, one overslept too."""

    step_ns: int
    steps: int = 0
    late: int = 0

    def note(self, late_ns: int, skipped: int) -> None:
        self.steps += 1 + skipped
        self.late += (late_ns > self.step_ns // 2) + skipped

    @property
    def long_enough(self) -> bool:
        return self.steps >= max(_LEAST_STEPS, _LEAST_S * 1e9 / self.step_ns)

    def require_rate(self) -> None:
        """Raises Refused when too many steps were late."""
        if self.late <= _LATE_SHARE * self.steps:
            return
        got = f"{self.late} of {self.steps} disarmed steps woke more than half a period late, or not at all"
        todo = "stop other programs, see `edgevla doctor`, lower servo_ratio, or accept it with --best-effort"
        raise Refused(explain("this host does not keep the declared rate", f"{1e9 / self.step_ns:g} Hz", got, todo))

    def as_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "late": self.late}
