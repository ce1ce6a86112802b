"""Everything of a profile in one document: a cold start, a traced run, every operator, memory, the roofline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.guard.stages import rows_of, stages_of
from bench.profile import imports, memory, startup
from bench.profile.cold import Asked, Cold, cold_start
from bench.profile.operators import operator_rows, roofline_figures
from bench.profile.timeline import Traced, timeline
from bench.profile.traced import traced_run
from bench.roofline.run import roofline
from edgevla.bundle.reader import Bundle
from edgevla.errors import Unsound, explain
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.stats import summarise

SCHEMA = "edgevla.profile/1"
Samples = dict[str, np.ndarray[Any, np.dtype[np.float64]]]


def collect(
    bundle: Bundle, asked: Asked, rounds: int, tell: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The profile and the trace. `tell` takes lines for people. Raises EdgevlaError."""
    tell(f"cold start: edgevla run, {asked.seconds:g} s")
    cold = cold_start(asked)
    tell(f"the same with ONNX Runtime's profiler, {asked.seconds:g} s")
    traced = traced_run(asked)
    tell(f"peaks of this CPU, and {rounds} profiled passes of each graph")
    found = roofline(bundle, rounds=rounds)
    tell("imports")
    samples = stages(asked, cold, traced)
    trace = timeline(traced)
    about = {"schema": SCHEMA, "bundle": bundle.manifest.name, "target": asked.plan.target.name}
    host = describe_host()
    profile = {
        "schema": SCHEMA,
        "bundle": {"name": bundle.manifest.name, "sha256": bundle.sha256},
        "target": asked.plan.target.name,
        "arm": asked.plan.arm.name,
        "seconds": asked.seconds,
        "not_granted": list(cold.figures["real_time"].get("missing", [])),
        "stages": {name: _figures(values) for name, values in samples.items()},
        "interval": interval(asked, cold, samples),
        "operators": operator_rows(found.graphs),
        "memory": memory.figures(cold.peaks, found.graphs, bundle),
        "startup": _startup(cold),
        "roofline": roofline_figures(found),
        "trace": {"events": len(trace.events), "inferences": len(traced.inferences), "graph_runs": len(traced.graphs)},
        "host": host,
    }
    return profile, trace.document(about)


def stages(asked: Asked, cold: Cold, traced: Traced) -> Samples:
    """us by stage: of the cold start's run, but for the camera's, whose frames only the traced run has stamps of.

    Raises Unsound when the arm never moved in one of them.
    """
    plan, graphs = asked.plan, asked.setup.graphs
    plain = rows_of(cold.ticks, cold.inferences, {}, plan, 0.0)
    watched = rows_of(traced.ticks, traced.inferences, traced.captures, plan, 0.0)
    if plain is None or watched is None:
        raise Unsound(explain("the runs", "servo steps that command", "none", "see `edgevla run` with the same"))
    found = {**stages_of(plain, graphs), "capture": stages_of(watched, graphs)["capture"]}
    return {name: values / 1e3 for name, values in found.items() if len(values)}


def _figures(samples_us: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """They describe this run; nothing is bounded."""
    said = summarise(samples_us)
    parts = {"p50_us": said.p50, "p99_us": said.p99, "p999_us": said.p999, "max_us": said.maximum}
    return {**{key: round(value, 3) for key, value in parts.items()}, "count": said.count}


def interval(asked: Asked, cold: Cold, samples: Samples) -> dict[str, Any]:
    """Mean time of every process in one re-plan interval, us: what the flame view shows."""
    plan = asked.plan
    replan_s = plan.schedule.replan * plan.period_s
    steps = plan.schedule.replan * plan.target.servo_ratio
    written = cold.ticks[(cold.ticks["write_ns"] > 0) & (cold.ticks["send_ns"] > 0)]
    servo = {
        "release, interpolate, limit": steps * _mean_us(written["send_ns"] - written["wake_ns"]),
        "send": steps * _mean_us(written["write_ns"] - written["send_ns"]),
    }
    policy = [name for name in samples if name in ("preprocess", "postprocess") or name.startswith("graph:")]
    frames = sum(camera.rate_hz for camera in plan.cameras) * replan_s
    return {
        "replan_s": replan_s,
        "capture": round(frames * float(samples["capture"].mean()), 3) if "capture" in samples else None,
        "policy": {name: round(float(samples[name].mean()), 3) for name in policy},
        "servo": {name: round(us, 3) for name, us in servo.items()},
    }


def _mean_us(values_ns: Any) -> float:
    return float(np.mean(values_ns)) / 1e3 if len(values_ns) else 0.0


def _startup(cold: Cold) -> dict[str, Any]:
    first_ns, acting_ns = startup.first_commands(cold.ticks)
    found = startup.steps(cold.started_ns, cold.figures["start_ns"], first_ns, acting_ns)
    costs = {process: imports.measure(process).as_dict() for process in imports.PROCESSES}
    return {**startup.figures(found, cold.figures["start_cpu_ns"]), "imports": costs}
