"""From what the children said to the result of a run. Pure, but for the rows it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgevla.control.memory import Memory
from edgevla.control.options import RunOptions
from edgevla.control.plan import RunPlan
from edgevla.control.result import (
    RunResult,
    Stop,
    bus_stop,
    inference_figures,
    latched_stop,
    loop_figures,
    protective_stop,
    servo_ended_stop,
)


@dataclass
class Seen:
    """What the children have said so far."""

    port: str | None = None
    connected: dict[str, Any] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    rehearsal: dict[str, Any] = field(default_factory=dict)
    armed: bool = False
    end: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    success_tick: int | None = None
    inference_failed: str = ""
    restarts: int = 0
    policy_up: bool = False
    guarded: bool = False  # the guardian watches
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    camera_stalls: int = 0
    events_lost: int = 0  # that the recorder did not take
    recorder: dict[str, Any] = field(default_factory=dict)
    instructions: list[str] = field(default_factory=list)  # said during the run
    start_ns: dict[str, int] = field(default_factory=dict)  # CLOCK_MONOTONIC, of each step of the start
    start_cpu_ns: dict[str, int] = field(default_factory=dict)  # that a process had spent by then, its imports included


def verdict(plan: RunPlan, seen: Seen, asked: Stop | None, loop: dict[str, Any], inferences: dict[str, Any]) -> Stop:
    """Why the run ended. `asked`: what the supervisor or the operator decided."""
    end = seen.end
    reason, message = end.get("reason"), str(end.get("message", ""))
    if reason == "fault":
        return bus_stop(message, loop)
    if reason == "servo":
        return servo_ended_stop(message, str(end.get("last_words", "")))
    if reason == "protective":
        return protective_stop(message)
    if reason == "latched" and asked is None:
        schedule, failed = plan.schedule, seen.inference_failed
        return latched_stop(end, inferences, failed, plan.arm.hold_s, schedule.horizon, schedule.survive)
    if asked is not None:
        return asked
    if reason == "duration":
        return Stop("duration reached")
    return Stop("operator stop" if seen.armed else "operator stop (before the arm was armed)")


def result_of(
    plan: RunPlan, options: RunOptions, seen: Seen, asked: Stop | None, memory: Memory, wall_s: float, stolen: float
) -> RunResult:
    """The result, with every figure of the run."""
    end, ticks, inferences = seen.end, memory.ticks.newest(), memory.inferences.newest()
    link = end.get("link", {})
    loop = loop_figures(
        ticks, plan.period_s / plan.target.servo_ratio, plan.arm.command_ttl_s, int(link.get("late", 0))
    )
    told = inference_figures(inferences)
    stop = verdict(plan, seen, asked, loop, told)
    figures = {
        "policy": plan.policy,
        "arm": plan.arm.name,
        "target": plan.target.name,
        "instruction": options.instruction,
        "instructions_said": seen.instructions,
        "sim": options.sim,
        "seed": options.seed,
        "half_way": options.half_way,
        "success_tick": seen.success_tick,
        "schedule": {
            "period_s": plan.period_s,
            "H": plan.schedule.horizon,
            "d": plan.schedule.delay,
            "r": plan.schedule.replan,
            "m": plan.schedule.survive,
            "servo_ratio": plan.target.servo_ratio,
        },
        "loop": loop,
        "rehearsal": seen.rehearsal,
        "start_ns": seen.start_ns,
        "start_cpu_ns": seen.start_cpu_ns,
        "steady": end.get("steady", {}),
        "inference": told,
        "chunks": {key: end.get(key, 0) for key in ("released", "release_misses", "passed_over")},
        "policy_restarts": seen.restarts,
        "stop_confirmed": bool(end.get("stop_confirmed", False)),
        "real_time": end.get("granted") or seen.connected.get("granted", {}),
        "policy_not_pinned": seen.ready.get("not_pinned"),
        "policy_resident_mb": seen.ready.get("resident_mb"),
        "policy_providers": seen.ready.get("providers", {}),
        "cameras": seen.cameras,
        "camera_stalls": seen.camera_stalls,
        "recorder": {key: value for key, value in seen.recorder.items() if key != "event"},
        "events_not_recorded": seen.events_lost,
        "link": link,
        "device": {key: value for key, value in seen.device.items() if key != "event"},
        "wall_s": round(wall_s, 3),
        "stolen_s": round(stolen, 3),
    }
    success = None if options.sim is None else seen.success_tick is not None
    captures = {name: rows.newest() for name, rows in memory.captures.items()}
    return RunResult(stop.reason, stop.code, success, figures, ticks, inferences, stop.error, captures)
