"""Our loop and cyclictest in alternating windows of one run, on the same core, under the same load.

Round by round, every load, rate and contender has one window; the order of the loads and of the two contenders is
drawn anew each time, so that a slow drift of the host meets both. Nothing else of ours runs meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.loop import cyclictest
from bench.loop.histogram import Histogram, of_ns, packed, tail
from bench.loop.load import loaded
from bench.loop.ours import WARM_UP
from edgevla.bundle.arrays import expect, load_npy
from edgevla.errors import Unsound, Usage, explain
from edgevla.telemetry.host import stolen_s

LOADS = {
    "idle": (),
    "memory": ("memory",),
    "inference": ("inference",),
    "disk": ("disk",),
    "all": ("memory", "inference", "disk"),
}
OURS, YARDSTICK = "ours", "cyclictest"
PRIORITY = 80
TAIL_US = 150  # of the busy tail, facts section 10
_STEAL_FIELD = 8  # of a `cpu` line in /proc/stat, proc(5)
_SYSCTL = Path("/proc/sys/kernel")


@dataclass(frozen=True)
class Design:
    """What is measured; written down before the first window."""

    rates_hz: tuple[int, ...]
    loads: tuple[str, ...]
    rounds: int
    samples: dict[int, int]  # rate -> samples of one window
    core: int
    load_core: int
    seed: int
    bundle: str = ""
    folder: str = ""

    @property
    def seconds(self) -> float:
        """Of the windows themselves, without the start of processes."""
        each = sum(2 * self.samples[rate] / rate for rate in self.rates_hz)
        return self.rounds * len(self.loads) * each


@dataclass(frozen=True)
class Window:
    """One contender once."""

    round: int
    rate_hz: int
    load: str
    contender: str
    first: bool  # of the two of this window
    histogram: Histogram  # us after the deadline
    skipped: int | None  # whole periods overslept; cyclictest does not say
    stolen_core_s: float  # by the host from the measured core
    stolen_s: float  # from all cores
    cpu_share: float | None  # of its core, ours only
    shallow_idle: bool | None
    tail_us: float = 0.0

    @property
    def marked(self) -> bool:
        """Whether the host took time from the machine meanwhile."""
        return self.stolen_s > 0

    def as_dict(self) -> dict[str, Any]:
        figures = {key: value for key, value in vars(self).items() if key != "histogram"}
        return {
            **figures,
            "marked": self.marked,
            **tail(self.histogram).as_dict(),
            "histogram_us": packed(self.histogram),
        }


def check_design(design: Design) -> None:
    """Raises Usage on a design that cannot be measured here."""
    cores = os.sched_getaffinity(0)
    if design.core not in cores or design.load_core not in cores or design.core == design.load_core:
        expected, got = f"two different ones of {sorted(cores)}", f"{design.core} and {design.load_core}"
        raise Usage(explain("the cores make no measurement", expected, got, "pass others with --core, --load-core"))
    unknown = [load for load in design.loads if load not in LOADS]
    if unknown or not design.loads:
        raise Usage(explain("unknown load", ", ".join(LOADS), ", ".join(unknown) or "none", "pass others with --loads"))
    if not all(10 <= rate <= 2000 for rate in design.rates_hz) or not design.rates_hz:
        raise Usage(
            explain("a rate that makes no window", "10 .. 2000 Hz", design.rates_hz, "pass others with --rates")
        )


def schedule(design: Design) -> list[tuple[int, str, list[tuple[int, tuple[str, str]]]]]:
    """The order of everything, from the seed alone: (round, load, [(rate, contenders in order)]). Pure."""
    dice = random.Random(design.seed)
    plan = []
    for index in range(design.rounds):
        for load in dice.sample(design.loads, len(design.loads)):
            pairs = []
            for rate in dice.sample(design.rates_hz, len(design.rates_hz)):
                first, second = dice.sample((OURS, YARDSTICK), 2)
                pairs.append((rate, (first, second)))
            plan.append((index, load, pairs))
    return plan


def measure(
    design: Design, folder: Path, say: Callable[[str], None] = lambda text: None
) -> tuple[list[Window], list[dict[str, Any]]]:
    """Every window, and what the loads did. Raises Unsound, DeviceFault, Usage."""
    check_design(design)
    cyclictest.version()
    windows, worked = [], []
    for index, load, pairs in schedule(design):
        say(f"round {index + 1} of {design.rounds}, load {load}")
        with loaded(LOADS[load], design.load_core, design.bundle, design.folder) as loads:
            windows += list(_windows(design, index, load, pairs, folder))
        worked.append({"round": index, "load": load, "worked": loads.worked})
    return windows, worked


def _windows(
    design: Design, index: int, load: str, pairs: Sequence[tuple[int, tuple[str, str]]], folder: Path
) -> Iterator[Window]:
    for rate, contenders in pairs:
        for place, contender in enumerate(contenders):
            before = _core_stolen_s(design.core), stolen_s()
            found = contend(contender, rate, design.samples[rate], design.core, folder)
            stolen = _core_stolen_s(design.core) - before[0], stolen_s() - before[1]
            yield Window(index, rate, load, contender, place == 0, *found[:2], *stolen, *found[2:])


def contend(
    contender: str, rate_hz: int, samples: int, core: int, folder: Path, tail_us: float = 0.0
) -> tuple[Histogram, int | None, float | None, bool | None]:
    """One window: histogram, skipped periods, share of the CPU, shallow idle."""
    if contender == YARDSTICK:
        return cyclictest.window(rate_hz, samples, core, PRIORITY, folder), None, None, None
    event, histogram = _ours(rate_hz, samples, core, folder, tail_us)
    granted = event["granted"]
    if granted["missing"]:
        todo = "run as root, or give CAP_SYS_NICE and CAP_IPC_LOCK: cyclictest has them too"
        raise Unsound(explain("our window was not granted what it needs", "all", "; ".join(granted["missing"]), todo))
    return histogram, event["skipped"], event["cpu_share"], granted["shallow_idle"]


def busy_tail(rate_hz: int, samples: int, core: int, folder: Path) -> dict[str, Any]:
    """Our loop sleeping to the deadline against sleeping short of it and spinning: what it wins and what it costs."""
    duty, largest = TAIL_US * 1e-6 * rate_hz, largest_duty()
    if duty >= largest:
        expected = f"less than {largest:g} of the core (sched_rt_runtime_us)"
        raise Usage(explain("the busy tail would be throttled", expected, f"{duty:g}", "pass a lower rate"))
    found: dict[str, Any] = {"rate_hz": rate_hz, "load": "idle", "tail_us": TAIL_US, "largest_duty": largest}
    for name, tail_us in (("without", 0.0), ("with", float(TAIL_US))):
        histogram, skipped, share, _ = contend(OURS, rate_hz, samples, core, folder, tail_us)
        found[name] = {
            **tail(histogram).as_dict(),
            "cpu_share": share,
            "skipped": skipped,
            "histogram_us": packed(histogram),
        }
    return found


def largest_duty(sysctl: Path = _SYSCTL) -> float:
    """Share of a core that the kernel leaves to real-time tasks; 1 without a throttle."""
    runtime, period = (int((sysctl / f"sched_rt_{name}_us").read_text()) for name in ("runtime", "period"))
    return 1.0 if runtime < 0 else runtime / period


def _ours(rate_hz: int, samples: int, core: int, folder: Path, tail_us: float) -> tuple[dict[str, Any], Histogram]:
    out = folder / "ours.npy"
    command = [
        sys.executable, "-m", "bench.loop.ours", "--rate-hz", str(rate_hz), "--samples", str(samples),
        "--core", str(core), "--priority", str(PRIORITY), "--tail-us", str(tail_us), "--out", str(out),
    ]  # fmt: skip
    event = last_event(command, (samples + WARM_UP) / rate_hz + 60.0)
    late_ns = expect(load_npy(out.read_bytes(), out.name), out.name, "int64", (samples,))
    return event, of_ns(late_ns)


def last_event(command: Sequence[str], patience_s: float) -> dict[str, Any]:
    """The `measured` event of a child. Raises Unsound with what it said instead."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=patience_s, check=False)
    except subprocess.TimeoutExpired:
        raise Unsound(explain("a window did not end", f"{patience_s:g} s", "longer", "run on an idle host")) from None
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    event = json.loads(said[-1]) if said else {}
    if event.get("event") != "measured":
        got = event.get("message") or f"exit status {done.returncode}"
        raise Unsound(explain("a window failed", "its samples", got, "try: " + " ".join(command[1:])))
    return dict(event)


def _core_stolen_s(core: int, stat: Path = Path("/proc/stat")) -> float:
    """Seconds stolen from one core since boot; 0 where the kernel does not say."""
    for line in stat.read_text(encoding="ascii").splitlines():
        name, *_ = fields = line.split()
        if name == f"cpu{core}" and len(fields) > _STEAL_FIELD:
            return int(fields[_STEAL_FIELD]) / os.sysconf("SC_CLK_TCK")
    return 0.0
