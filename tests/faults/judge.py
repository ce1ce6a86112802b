"""One fault, run and judged: a row of the table, and what is wrong with it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import EdgevlaError
from edgevla.flight.explain import explain_stop
from edgevla.flight.reader import read_record
from tests.faults import oracle
from tests.faults.arms import plan, tight_arm
from tests.faults.faults import RESTED, STOPPED, SURVIVED, Fault
from tests.faults.rig import Rig

_REST_NS = 150_000_000  # ns without a command that moves a swaying arm: it rests


@dataclass(frozen=True)
class Row:
    """What one fault did. Times are ms after the fault; None where the arm did not stop."""

    fault: str
    late_commands: int
    out_of_limit_commands: int
    stop_ms: float | None
    bound_ms: float | None
    latched_ms: float | None
    latched_bound_ms: float | None
    bound: str
    outcome: str
    explained_by: str
    stop_reason: str
    samples: int  # commands judged
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def play(fault: Fault, servo: str = "", **host: Any) -> Row:
    """Run it. Raises RuntimeError or TimeoutError when the run does not begin or does not end."""
    begun_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="edgevla-fault-"))
    try:
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(fault.record(folder)) if fault.record else folder
            record = place / "record"
            record.mkdir()
            rig = stack.enter_context(Rig(folder, servo=servo, record=record, arm=dict(fault.arm), **host))
            rig.run_for(fault.settle_s)
            from_ns = fault.inject(rig)
            rig.run_for(fault.watch_s)
            log, result, end_ns = rig.finish()
            return _judged(fault, log, result, rig.rows(), (from_ns, end_ns), _explained(record), begun_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judged(
    fault: Fault, log: oracle.Log, result: dict[str, Any], rows: Any, times: tuple[int, int], line: str, begun_s: float
) -> Row:
    from_ns, end_ns = times
    arm = tight_arm(**fault.arm)
    planned = plan(arm)
    step_s = planned.period_s / planned.target.servo_ratio
    heard = oracle.decode(log)
    latched = oracle.latched_ns(heard, from_ns)
    stopped = latched is not None and latched < end_ns
    rested = oracle.pause_ns(heard, from_ns, end_ns, _REST_NS)
    outcome = STOPPED if stopped else RESTED if rested is not None else SURVIVED
    at_rest = oracle.rest_ns(heard, from_ns) if stopped else rested
    if fault.lasting and at_rest is not None:
        from_ns = oracle.last_input_ns(rows, from_ns, at_rest)
    bound = fault.bound(planned) if fault.bound and outcome != SURVIVED else None
    ttl_ns = round(arm.command_ttl_s * 1e9)
    return Row(
        fault=fault.name,
        late_commands=oracle.late_commands(heard, rows, ttl_ns, round(step_s * 1e9)),
        out_of_limit_commands=oracle.beyond_limits(heard, arm, step_s),
        stop_ms=None if at_rest is None or outcome == SURVIVED else _ms(at_rest - from_ns),
        bound_ms=None if bound is None else round(1e3 * bound.rest_s, 1),
        latched_ms=_ms(latched - from_ns) if stopped and latched is not None else None,
        latched_bound_ms=round(1e3 * bound.latched_s, 1) if bound is not None and stopped else None,
        bound=bound.formula if bound else "",
        outcome=outcome,
        explained_by=line if stopped else _went_on(result, len(heard.sent) - len(heard.delivered)),
        stop_reason=str(result.get("stop_reason", "")),
        samples=len(heard.sent),
        seconds=round(time.monotonic() - begun_s, 1),
    )


def wrong(fault: Fault, row: Row) -> list[str]:
    """What breaks the promises, in words; empty when all are kept."""
    found = []
    if row.samples == 0:
        found.append("no command was seen")
    if row.late_commands:
        found.append(f"{row.late_commands} late commands")
    if row.out_of_limit_commands:
        found.append(f"{row.out_of_limit_commands} commands beyond limits")
    if row.outcome not in fault.expect:
        found.append(f"{row.outcome}, expected {' or '.join(sorted(fault.expect))}")
    for name, value, limit in (
        ("rest", row.stop_ms, row.bound_ms),
        ("latched", row.latched_ms, row.latched_bound_ms),
    ):
        if value is not None and limit is not None and value > limit:
            found.append(f"{name} after {value:g} ms, bound {limit:g} ms ({row.bound})")
    if not row.explained_by or (len(fault.expect) == 1 and fault.says not in row.explained_by):
        found.append(f"nothing explains it, expected {fault.says!r}, got {row.explained_by!r}")
    return found


def _went_on(result: dict[str, Any], lost: int) -> str:
    """What a fault that did not stop the arm left behind, from the figures of the run."""
    if not result:
        return ""
    chunks, recorder = result["chunks"], result["recorder"].get("message")
    statuses = ", ".join(f"{count} {name}" for name, count in result["inference"]["statuses"].items())
    parts = [
        f"{chunks['release_misses']} chunks too late or unusable, {chunks['passed_over']} re-plan ticks passed over",
        f"{result['policy_restarts']} policy restarts",
        f"inferences: {statuses}",
        *([f"{lost} commands lost on the line"] if lost else []),
    ]
    return "; ".join([*parts, *([f"recorder: {recorder}"] if recorder else [])])


def _explained(record: Path) -> str:
    try:
        return explain_stop(read_record(record))
    except EdgevlaError as error:
        return f"no flight record ({str(error).splitlines()[0]})"


def _ms(time_ns: int) -> float:
    return round(time_ns / 1e6, 1)
