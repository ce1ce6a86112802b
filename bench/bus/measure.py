"""The two runs of a case: paced by the wire, and as fast as it goes beside the peer. Each device in its own process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from bench.bus.case import Case, Peer
from bench.bus.wire import cycles
from edgevla.errors import Unsound, explain
from edgevla.telemetry.interleaved import Ratio, collector_off, measure
from firmware_bridge.arm import Arm, ArmInfo, Float32, exchange
from firmware_bridge.protocols import open_arm
from firmware_bridge.virtual.client import VirtualProcess

CYCLES = 1000  # paced
BLOCK = 20  # exchanges that are timed together, unpaced
WARM_UP = 50
AWAKE_US = 2000  # the device, on its core, hears a word at once as a wire does: server.Server
PATIENCE_NS = 1_000_000_000  # of one exchange: a silent joint is an error, never a slow sample
_SWING = 0.05  # of a joint's range, around its middle
_GOALS = 64
Call = Callable[[int], object]


@dataclass(frozen=True)
class Seats:
    """The two cores: ours (host) and the device's. All of it under SCHED_OTHER."""

    host: int
    device: int

    def check(self) -> None:
        """Pin this process to its core. Raises Unsound where two cores or the ordinary scheduler are not to be had."""
        usable = os.sched_getaffinity(0)
        if not {self.host, self.device} <= usable or self.host == self.device:
            todo = "run on a machine with two cores, or name others with --core and --device-core"
            raise Unsound(explain("host and device need a core each", f"two of {sorted(usable)}", self, todo))
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            got = os.sched_getscheduler(0)
            raise Unsound(explain("this process is not SCHED_OTHER", "SCHED_OTHER", got, "start it without chrt"))
        os.sched_setaffinity(0, {self.host})

    def device_of(self, case: Case, **asked: Any) -> VirtualProcess:
        options = dict(case.options if case.device is None else case.device)
        served = VirtualProcess(case.protocol, case.joints, options=options, awake_us=AWAKE_US, **asked)
        os.sched_setaffinity(served.pid, {self.device})
        return served


def goals(case: Case) -> list[Float32]:
    """Set-points around the middle of the range, no two in a row alike."""
    low = np.array([joint.minimum for joint in case.joints])
    high = np.array([joint.maximum for joint in case.joints])
    phases = np.sin(np.arange(_GOALS) * (2.0 * np.pi / _GOALS))[:, None]
    return list((0.5 * (low + high) + _SWING * (high - low) * phases).astype(np.float32))


class Ours:
    """Our driver on `port`, connected; arms when it is asked to."""

    def __init__(self, case: Case, port: str) -> None:
        self.arm: Arm = open_arm(case.config(port))
        self.info: ArmInfo = self.arm.connect()
        self._goals = goals(case)
        self._wire_ns = case.wire_ns

    @property
    def declared_ns(self) -> int:
        """The longest return delay that connecting read back."""
        return round(max((joint.return_delay_s or 0.0 for joint in self.info.joints), default=0.0) * 1e9)

    def call(self, step: int) -> object:
        return exchange(self.arm, self._goals[step % _GOALS], time.monotonic_ns() + PATIENCE_NS, self._wire_ns)


class Theirs:
    """The peer on `port`."""

    def __init__(self, case: Case, module: ModuleType, port: str) -> None:
        self.peer: Peer = module.connect(port, case)
        self._goals = [goal.tolist() for goal in goals(case)]

    def call(self, step: int) -> None:
        self.peer.exchange(self._goals[step % _GOALS])


def paced(case: Case, module: ModuleType, seats: Seats, count: int = CYCLES) -> dict[str, Any]:
    """Figures of our driver, and of the peer where there is one, on a line as slow as the wire."""
    asked = {"paced_baud": case.baud, **({} if case.data_baud is None else {"data_baud": case.data_baud})}
    with seats.device_of(case, **asked) as served:
        ours = Ours(case, served.port)
        try:
            ours.arm.arm()
            found = {"ours": _timed(ours.call, served, count, ours.declared_ns)}
        finally:
            ours.arm.close()
    if module.LIBRARY is not None:
        with seats.device_of(case, **asked) as served:
            theirs = Theirs(case, module, served.port)
            try:
                found["peer"] = _timed(theirs.call, served, count, ours.declared_ns)
            finally:
                theirs.peer.close()
    return found


def _timed(call: Call, served: VirtualProcess, count: int, declared_ns: int) -> dict[str, Any]:
    for step in range(WARM_UP):
        call(step)
    starts, ends = [0] * (count + 1), [0] * count
    with collector_off():
        cpu_ns = time.process_time_ns()
        for step in range(count):
            starts[step] = time.monotonic_ns()
            call(step)
            ends[step] = time.monotonic_ns()
        starts[count] = time.monotonic_ns()
        cpu_ns = time.process_time_ns() - cpu_ns
    busy = [interval for interval in served.do("report")["busy"] if starts[0] <= interval[0] < starts[count]]
    return {**cycles(starts, ends, busy, declared_ns).summary(), "cpu_us": cpu_ns / count / 1e3}


@dataclass
class _Block:
    """BLOCK exchanges as one timed call; their CPU time beside it, all threads of this process."""

    call: Call
    cpu_ns: int = 0
    step: int = 0

    def __call__(self) -> None:
        begin = time.process_time_ns()
        for step in range(self.step, self.step + BLOCK):
            self.call(step)
        self.step += BLOCK
        self.cpu_ns = time.process_time_ns() - begin

    def probe(self) -> dict[str, int]:
        return {"cpu": self.cpu_ns}


@dataclass(frozen=True)
class Unpaced:
    """us per exchange, medians over rounds; ratios peer over ours with their intervals; () where there is no peer."""

    us: dict[str, float]
    spread: dict[str, list[float]] = field(default_factory=dict)  # 5 % and 95 % of the rounds
    ratios: dict[str, Ratio] = field(default_factory=dict)
    rounds: int = 0
    stolen_s: float | None = None


def unpaced(case: Case, module: ModuleType, seats: Seats, rounds: int) -> Unpaced:
    """Ours and the peer in alternating blocks, each on its own copy of the virtual device."""
    with seats.device_of(case) as served, seats.device_of(case) as other:
        ours = Ours(case, served.port)
        theirs = Theirs(case, module, other.port) if module.LIBRARY is not None else None
        blocks = {"ours": _Block(ours.call)}
        if theirs is not None:
            blocks["peer"] = _Block(theirs.call)
        try:
            ours.arm.arm()
            run = measure(blocks, rounds, warmup=5, probes={name: block.probe for name, block in blocks.items()})
        finally:
            ours.arm.close()
            if theirs is not None:
                theirs.peer.close()
    per = {name: values / (BLOCK * 1e3) for name, values in run.ns.items()}
    ratios = {} if theirs is None else {"wall": run.ratio("peer", "ours"), "cpu": run.ratio("peer/cpu", "ours/cpu")}
    return Unpaced(
        {name: float(np.median(values)) for name, values in per.items()},
        {name: [float(q) for q in np.quantile(values, (0.05, 0.95))] for name, values in per.items()},
        ratios,
        run.rounds,
        run.stolen_s,
    )


def answered(missing: Sequence[object]) -> None:
    """For peers: raises Unsound when their library got no answer from a joint."""
    if missing:
        todo = "the peer does not speak to this virtual device: no comparison with it holds"
        raise Unsound(explain("the peer's exchange", "an answer of every joint", f"none of {missing}", todo))
