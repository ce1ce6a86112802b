"""One segment of a guarded run: the real processes around a virtual arm, and what they left."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.energy import mean_power, rails_w
from bench.guard.sound import Reason, conditions, of_machine
from bench.guard.stages import Rows, rows_of, stages_of
from bench.loop.load import loaded
from edgevla.bundle import Bundle
from edgevla.bus.virtual_arm import started
from edgevla.control.course import Nobody
from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.control.options import RunOptions
from edgevla.control.plan import RunPlan
from edgevla.control.result import COMMANDING, RunResult
from edgevla.control.run import run
from edgevla.doctor.host import Host
from edgevla.errors import Unsound, explain
from edgevla.operate.wish import Wish
from edgevla.telemetry.png import encode_png

Float64 = NDArray[np.float64]
Say = Callable[[str], None]

SEGMENT_S = 120.0  # the longest: what is lost when somebody stops it
_RASTER = 8192  # servo steps that are drawn one by one
_TELL_S = 10.0  # between two lines of progress
_LOOK_S = 1.0  # between two looks at the power sensors
_ARM_PRIORITY = 50  # SCHED_FIFO of the virtual devices, where permitted: hardware does not wait for a busy host


@dataclass(frozen=True)
class Setup:
    """What all segments have in common."""

    bundle: Bundle
    plan: RunPlan
    graphs: tuple[str, ...]
    instruction: str
    load: tuple[str, ...] = ()
    warm_up_s: float = 2.0
    cameras: Mapping[str, str] = field(default_factory=dict)  # sources instead of the bundle's own picture
    host: Host = field(default_factory=Host)

    @property
    def replan_s(self) -> float:
        """One inference is due every so often."""
        return self.plan.schedule.replan * self.plan.period_s

    def key(self) -> dict[str, Any]:
        """What makes segments comparable."""
        return {
            "bundle": {"name": self.plan.policy, "sha256": self.plan.bundle_sha256},
            "target": self.plan.target.name,
            "arm": self.plan.arm.name,
            "load": "+".join(self.load) or "none",
            "engine": self.plan.engine,
        }


@dataclass(frozen=True)
class Segment:
    """`series`: ns by stage, in the order in which they were due. `facts`: JSON."""

    series: dict[str, Float64]
    facts: dict[str, Any]

    @property
    def inferences(self) -> int:
        return len(self.series["preprocess"])


class Progress(Nobody):
    """Says how long it still takes, and looks at the power sensors meanwhile."""

    def __init__(self, host: Host, seconds: float, tell: Say) -> None:
        super().__init__(tell)
        self._host, self._seconds, self._tell = host, seconds, tell
        self._begun_s = self._told_s = self._looked_s = time.monotonic()
        self.rails: list[dict[str, float]] = []

    def look(self) -> list[Wish]:
        now_s = time.monotonic()
        if now_s - self._looked_s > _LOOK_S:
            self._looked_s = now_s
            self.rails.append(rails_w(self._host.tree))
        if now_s - self._told_s > _TELL_S:
            self._told_s = now_s
            self._tell(f"{max(0.0, self._seconds - (now_s - self._begun_s)):.0f} s left in this segment")
        return []


def one_segment(setup: Setup, inferences: int, tell: Say) -> Segment:
    """Run until `inferences` were due after the warm-up. Raises Unsound, and what `run` raises."""
    replan_s = setup.replan_s
    duration_s = setup.warm_up_s + (inferences + 4) * replan_s
    before, begun_s = conditions(setup.host), time.monotonic()
    with ExitStack() as stack:
        port = stack.enter_context(virtual_arm(setup.plan))
        cameras = {**stack.enter_context(pictures(setup)), **setup.cameras}
        if setup.load:
            stack.enter_context(loaded(setup.load, setup.plan.target.policy_core or 0))
        operator = Progress(setup.host, duration_s, tell)
        options = RunOptions(
            instruction=setup.instruction,
            port=port,
            cameras=cameras,
            duration_s=duration_s,
            best_effort=True,  # what is not granted makes it unsound, in the document
        )
        result = run(setup.plan, options, operator=operator)
    after = conditions(setup.host)
    rows = rows_of(result.ticks, result.inferences, result.captures, setup.plan, setup.warm_up_s)
    if rows is None:
        got, todo = result.stop_reason, "mend that; see the same with `edgevla run`"
        raise Unsound(explain("nothing was measured", "a run beyond its warm-up", got, todo))
    machine = of_machine(setup.host, setup.plan.target, before, after)
    facts = _facts(setup, result, rows, machine, after.stolen_s - before.stolen_s, time.monotonic() - begun_s)
    return Segment(stages_of(rows, setup.graphs), {**facts, "energy": mean_power(operator.rails)})


@contextlib.contextmanager
def virtual_arm(plan: RunPlan) -> Iterator[str]:
    """The virtual devices of every bus of the arm, each a process; yields what `--port` would say."""
    with ExitStack() as stack:
        devices = {bus: stack.enter_context(started(plan.arm, bus, False, 0.0)) for bus in plan.arm.buses}
        for device in devices.values():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{device.pid}/task"):
                    os.sched_setscheduler(int(task), os.SCHED_FIFO, os.sched_param(_ARM_PRIORITY))
        yield ",".join(f"{bus}={device.port}" for bus, device in devices.items())


@contextlib.contextmanager
def pictures(setup: Setup) -> Iterator[dict[str, str]]:
    """A camera process each plays a picture of the bundle's golden vectors, at the arm's rate."""
    golden = next(iter(setup.bundle.golden.values()))
    with tempfile.TemporaryDirectory(prefix="edgevla-guard-") as folder:
        sources = {}
        for camera in setup.plan.cameras:
            path = Path(folder, f"{camera.name}.png")
            black = np.zeros((camera.height, camera.width, 3), np.uint8)  # of one that may be absent, and was
            path.write_bytes(encode_png(golden.images.get(camera.name, black)))
            sources[camera.name] = f"file:{path},loop"
        yield sources


def _facts(
    setup: Setup, result: RunResult, rows: Rows, machine: list[Reason], stolen: float, wall_s: float
) -> dict[str, Any]:
    told, stopped = result.figures, result.stop_reason
    past_ns = _past_expiry(result, setup.plan.arm.command_ttl_s)
    return {
        "key": setup.key(),
        "wall_s": round(wall_s, 3),
        "stolen_s": round(stolen, 3),
        "machine": [asdict(reason) for reason in machine],
        "missing": [*told["real_time"].get("missing", []), *filter(None, [told["policy_not_pinned"]])],
        "stop": {"reason": stopped, "code": result.exit_code, "operator": stopped.startswith("operator stop")},
        "past_expiry_ns": past_ns.tolist(),
        "commands": int((rows.ticks["write_ns"] > 0).sum()),
        "misses": {"servo": told["loop"]["misses"], **told["chunks"]},
        "ladder": ladder(result.ticks),
        "ticks": raster(rows),
        "memory": {
            "policy_resident_mb": round(told["policy_resident_mb"], 1),
            "policy_limit_mb": setup.plan.target.memory_mb,
        },
    }


def _past_expiry(result: RunResult, ttl_s: float) -> NDArray[np.int64]:
    """How long after its expiry each late command was written, ns."""
    sent = result.ticks[result.ticks["write_ns"] > 0]
    past: NDArray[np.int64] = sent["write_ns"] - sent["deadline_ns"] - round(ttl_s * 1e9)
    return past[past > 0]


def ladder(ticks: NDArray[Any]) -> list[dict[str, Any]]:
    """Each change of phase from arming on, with its time since then."""
    changed = np.flatnonzero(np.diff(ticks["phase"], prepend=[int(Phase.DISARMED)]))
    armed = np.flatnonzero(np.isin(ticks["phase"], COMMANDING))
    if not len(armed):
        return []
    begun_ns = ticks["deadline_ns"][armed[0]]
    return [
        {
            "at_s": round(float(ticks["deadline_ns"][row] - begun_ns) * 1e-9, 4),
            "tick": int(ticks["tick"][row]),
            "phase": Phase(int(ticks["phase"][row])).name.lower(),
        }
        for row in changed.tolist()
    ]


def raster(rows: Rows) -> dict[str, Any]:
    """The newest servo steps one by one, us after their deadline (-1: not written); misses as places in these lists."""
    ticks = rows.ticks[-_RASTER:]
    write_ns = np.where(ticks["write_ns"] > 0, ticks["write_ns"] - ticks["deadline_ns"], -1000)
    due = rows.inferences["tick"] + rows.plan.schedule.delay
    late = (rows.inferences["status"] != Status.OK) | (rows.inferences["done_ns"] > rows.deadline_ns(due))
    missed = (write_ns < 0) | (write_ns > rows.step_ns / 2) | (ticks["skipped"] > 0)
    return {
        "first_step": int(ticks["step"][0]),
        "period_us": rows.step_ns / 1e3,
        "wake_us": np.rint((ticks["wake_ns"] - ticks["deadline_ns"]) / 1e3).astype(int).tolist(),
        "write_us": np.rint(write_ns / 1e3).astype(int).tolist(),
        "release_misses": np.flatnonzero(np.isin(ticks["tick"], due[late])).tolist(),
        "servo_misses": np.flatnonzero(missed).tolist(),
    }


def save(path: Path, segment: Segment) -> None:
    """Write beside, then rename. Raises OSError."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        arrays: dict[str, Any] = {f"stage {name}": values for name, values in segment.series.items()}
        np.savez_compressed(file, facts=np.frombuffer(json.dumps(segment.facts).encode(), np.uint8), **arrays)
    part.replace(path)


def load(path: Path) -> Segment:
    """What `save` wrote. Raises OSError, ValueError, KeyError."""
    with np.load(path, allow_pickle=False) as file:
        facts = json.loads(file["facts"].tobytes())
        series = {name.removeprefix("stage "): file[name] for name in file.files if name.startswith("stage ")}
    return Segment(series, facts)
