"""How much of its core a SCHED_FIFO servo may take before the kernel stops it, sched-rt-group.rst of the kernel.

In every `sched_rt_period_us` all real-time tasks of a core may run `sched_rt_runtime_us`; then they stand still until
the period is over: 50 ms with the kernel's defaults. Kernels from 6.12 on reserve the rest for ordinary tasks by a
deadline server (`fair_server`), to the same effect; with CONFIG_RT_GROUP_SCHED the control group has its own budget.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = -1  # sched_rt_runtime_us: no throttle
MARGIN = 0.2  # of the share is kept free: interrupt threads of the core are real-time tasks too


@dataclass(frozen=True)
class Budget:
    """`runtime_us` of each `period_us` for real-time tasks; `source`: the file that says so."""

    runtime_us: int
    period_us: int
    source: str

    @property
    def share(self) -> float:
        """0..1 of a core."""
        return rt_budget(self.runtime_us, self.period_us)


@dataclass(frozen=True)
class RtLimits:
    """Every limit that holds for this process, and what could not be read."""

    budgets: tuple[Budget, ...]
    unknown: tuple[str, ...]

    @property
    def smallest(self) -> Budget | None:
        """The one that binds; None when none could be read."""
        return min(self.budgets, key=lambda budget: budget.share, default=None)


def rt_budget(runtime_us: int, period_us: int) -> float:
    """Share of a core (0..1) that real-time tasks may take. -1 means unlimited. Raises ValueError on nonsense."""
    if runtime_us == UNLIMITED:
        return 1.0
    if period_us <= 0 or runtime_us < 0:
        raise ValueError(f"runtime {runtime_us} us of period {period_us} us is no real-time budget")
    return min(1.0, runtime_us / period_us)


def require_duty(busy_s: float, period_s: float, share: float) -> str | None:
    """None when a servo busy `busy_s` of each `period_s` stays below `share` with MARGIN, else why not, in numbers.

    Raises ValueError on a negative time or a period of 0.
    """
    if not (busy_s >= 0.0 and period_s > 0.0):
        raise ValueError(f"busy {busy_s} s of period {period_s} s is no duty cycle")
    allowed = (1.0 - MARGIN) * share
    if busy_s / period_s <= allowed:
        return None
    busy = f"{1e3 * busy_s:.4g} ms of each {1e3 * period_s:.4g} ms, {100 * busy_s / period_s:.3g} % of its core"
    kernel = f"{100 * share:.3g} %, less {100 * MARGIN:.3g} % margin: {100 * allowed:.3g} %"
    return f"servo busy {busy}; the kernel allows {kernel}"


def read_rt_limits(root: Path = Path("/"), core: int | None = None) -> RtLimits:
    """The kernel's throttle, the budget of this process's control group, and the deadline server of `core`."""
    budgets, missing = [], []
    throttle = _pair(root, "proc/sys/kernel/sched_rt_runtime_us", "proc/sys/kernel/sched_rt_period_us")
    if throttle is None:
        missing.append("/proc/sys/kernel/sched_rt_runtime_us cannot be read")
    else:
        budgets.append(throttle)
    for found in (_group(root), _fair_server(root, core)):
        if found is not None:
            budgets.append(found)
    return RtLimits(tuple(budgets), tuple(missing))


def _pair(root: Path, runtime: str, period: str) -> Budget | None:
    runtime_us, period_us = _number(root / runtime), _number(root / period)
    if runtime_us is None or period_us is None or period_us <= 0 or runtime_us < UNLIMITED:
        return None
    return Budget(runtime_us, period_us, f"/{runtime}")


def _group(root: Path) -> Budget | None:
    """Control groups version 1 with CONFIG_RT_GROUP_SCHED; elsewhere the file does not exist."""
    try:
        said = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^\d+:(?:\w+,)*cpu(?:,\w+)*:/(.*)$", said, re.MULTILINE)
    if match is None:
        return None
    folder = f"sys/fs/cgroup/cpu/{match[1]}".rstrip("/")
    return _pair(root, f"{folder}/cpu.rt_runtime_us", f"{folder}/cpu.rt_period_us")


def _fair_server(root: Path, core: int | None) -> Budget | None:
    """What the deadline server of ordinary tasks leaves over. The file is in ns and for root only."""
    folder = f"sys/kernel/debug/sched/fair_server/cpu{core or 0}"
    reserved_ns, period_ns = _number(root / folder / "runtime"), _number(root / folder / "period")
    if reserved_ns is None or period_ns is None or not 0 <= reserved_ns <= period_ns or period_ns < 1000:
        return None
    return Budget((period_ns - reserved_ns) // 1000, period_ns // 1000, f"/{folder}")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
