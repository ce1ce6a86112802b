"""Before arming: does this host keep the servo's rate? Disarmed steps run at the same rate and are judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgevla.control.duty import read_rt_limits, require_duty
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
    busy_s: float = 0.0  # processor time of this thread in all those steps
    _thread_s: float | None = field(default=None, repr=False)

    def note(self, late_ns: int, skipped: int, thread_s: float) -> None:
        """`thread_s`: processor time of this thread so far."""
        self.steps += 1 + skipped
        self.late += (late_ns > self.step_ns // 2) + skipped
        self.busy_s += 0.0 if self._thread_s is None else thread_s - self._thread_s
        self._thread_s = thread_s

    def pause(self) -> None:
        """The steps that follow are no part of it."""
        self._thread_s = None

    @property
    def long_enough(self) -> bool:
        return self.steps >= max(_LEAST_STEPS, _LEAST_S * 1e9 / self.step_ns)

    @property
    def kept(self) -> bool:
        return self.late <= _LATE_SHARE * self.steps

    def require_rate(self) -> None:
        """Raises Refused when too many steps were late, or the kernel's throttle would stop so busy a servo."""
        limits = read_rt_limits()
        if limits.smallest is not None and self.steps and (reason := self._throttled(limits.smallest.share)):
            todo = "see `edgevla doctor`, lower servo_ratio, or accept it with --best-effort"
            raise Refused(explain("the servo would meet the kernel's real-time throttle", "room for it", reason, todo))
        if self.kept:
            return
        got = f"{self.late} of {self.steps} disarmed steps woke more than half a period late, or not at all"
        todo = "stop other programs, see `edgevla doctor`, lower servo_ratio, or accept it with --best-effort"
        raise Refused(explain("this host does not keep the declared rate", f"{1e9 / self.step_ns:g} Hz", got, todo))

    def as_dict(self) -> dict[str, Any]:
        busy_share = self.busy_s / (self.steps * self.step_ns * 1e-9) if self.steps else 0.0
        return {"steps": self.steps, "late": self.late, "kept": self.kept, "busy_share": round(busy_share, 4)}

    def _throttled(self, share: float) -> str | None:
        return require_duty(self.busy_s / self.steps, self.step_ns * 1e-9, share)
