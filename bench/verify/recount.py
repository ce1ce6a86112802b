"""Summaries from what they were made of: one function a committed file. Each returns the part that can be computed.

A function gets the folder of the results and the committed document, of which it may read what is raw and no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.loop.histogram import tail, unpacked
from edgevla.errors import BadInput, explain
from edgevla.telemetry.interleaved import Interleaved
from edgevla.telemetry.stats import nearest_rank

Json = Mapping[str, Any]


def read(path: Path) -> Any:
    """A committed JSON file. Raises BadInput."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(explain(f"{path.name} cannot be read", "a committed result", error, "restore it")) from None


# --- short lists of long results ---


def loop(folder: Path, found: Any) -> Any:
    from bench.summaries import loop_summary

    return loop_summary(read(folder / "loop-windows.json"))


def faults(folder: Path, found: Any) -> Any:
    from bench.summaries import fault_summary

    return fault_summary(read(folder / "faults-run.json"))


def structures(folder: Path, found: Any) -> Any:
    from bench.summaries import structures_summary

    return structures_summary(read(folder / "structures-run.json"), read(folder / "demo.json"))


def structures_run(folder: Path, found: Json) -> Json:
    """Success and intervals from the episodes; what was measured stays as it is."""
    from export.study.report import conclusions, rows_of

    names = ("p50_ms", "p99_ms", "rss_mb")
    costs = {row["structure"]: {name: row[name] for name in names if name in row} for row in found["rows"]}
    raw = [{**one, "parameters": 0, "frames": 0} for one in found["raw"]]
    kept = ("parameters", "frames")
    rows = [
        {**mine, **{key: theirs[key] for key in kept}}
        for mine, theirs in zip(rows_of(raw, costs), found["rows"], strict=True)
    ]
    return {"rows": rows, "conclusions": conclusions(rows)}


def recipes(folder: Path, found: Json) -> Json:
    """All rows from the episodes."""
    from export.study.recipes.report import conclusions, rows_of

    rows = rows_of(found["raw"])
    return {"rows": rows, "conclusions": conclusions(rows)}


def policy(folder: Path, found: Any) -> Any:
    from bench.summaries import policy_summary

    return policy_summary(read(folder / "mt10" / "evaluation.json"))


def deploy(folder: Path, found: Any) -> Any:
    from bench.summaries import DEPLOY_PARTS, deploy_summary

    return deploy_summary(*(read(folder / name) for name in DEPLOY_PARTS))


def bus(folder: Path, found: Any) -> Any:
    from bench.bus.result import short

    return short(read(folder / "bus-run.json")["rows"])


def export(folder: Path, found: Any) -> Any:
    from bench.export import gather

    return {key: value for key, value in gather(folder).items() if key != "host"}


# --- from raw histograms ---


def loop_windows(folder: Path, found: Json) -> Json:
    """Every window's figures from its histogram, and the rows from the windows."""
    from bench.loop.report import rows
    from bench.loop.windows import Window

    names = [field.name for field in fields(Window) if field.name != "histogram"]
    windows = [
        Window(**{name: row[name] for name in names}, histogram=unpacked(row["histogram_us"]))
        for row in found["windows"]
    ]
    spun = {name: tail(unpacked(found["busy_tail"][name]["histogram_us"])).as_dict() for name in ("without", "with")}
    return {"rows": rows(windows), "windows": [window.as_dict() for window in windows], "busy_tail": spun}


def soak(folder: Path, found: Json) -> Json:
    """Sums, bounds and histograms from the blocks."""
    from bench.soak.evidence import added, begun

    evidence = begun(found["key"], found["host"])
    for block in found["blocks"]:
        evidence = added(evidence, block)
    return {key: value for key, value in evidence.items() if key not in ("blocks", "host", "key")}


def guard(folder: Path, found: Json) -> Json:
    """Stages from their HDR histograms, bounds and maxima from the same, verdicts from values and limits."""
    from bench.guard.claims import Measured
    from bench.hdr import decoded

    held = {
        name: Measured(name, (), decoded(stage["hdr"]), stage["effective_samples"])
        for name, stage in found["stages"].items()
    }
    quantiles = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    stages = {
        name: {
            **{key: round(one.histogram.quantile_ns(share) / 1e3, 3) for key, share in quantiles.items()},
            "max_us": round(one.histogram.maximum_ns / 1e3, 3),
            "count": one.histogram.count,
        }
        for name, one in held.items()
    }
    claims = [_claim(claim, held.get(claim["stage"])) for claim in found["claims"]]
    return {"stages": stages, "claims": claims, "sound": not found["unsound_because"]}


def _claim(claim: Json, stage: Any) -> Json:
    """Of a bounded claim its value, of every other one only that value and limit give its verdict."""
    told: dict[str, Any] = {"name": claim["name"]}
    value, limit = claim["value_us"], claim["limit_us"]
    if claim["kind"] == "bounded" and stage is not None:
        # effective samples stand rounded to a tenth: the whole number below may be the one before
        bounds = [
            None if ns is None else round(ns / 1e3, 3)
            for less in (0.0, 0.05)
            for ns in [
                replace(stage, effective=stage.effective - less).bound_ns(claim["quantile"], claim["confidence"])
            ]
        ]
        told["value_us"] = value = value if value in bounds else bounds[0]
    if claim["kind"] != "proved" and value is not None and limit is not None and claim["samples"]:
        told["kept"] = value <= limit
    return told


# --- from raw samples ---


def interleaved(latencies_ns: Mapping[str, list[int]]) -> Interleaved:
    """The run that gave these arrays."""
    ns = {name: np.asarray(values, np.int64) for name, values in latencies_ns.items()}
    return Interleaved(ns, max((v.size for v in ns.values()), default=0), 0.0, None)


def compare(folder: Path, found: Json) -> Json:
    run = interleaved(found["latencies_ns"])
    figures = {}
    for name, figure in found["figures"].items():
        ratio = run.ratio(figure["slow"], figure["fast"])
        kept = ratio.low >= figure["goal"] and figure["errors_inside_budget"]
        figures[name] = {**ratio.as_dict(), "kept": kept}
    return {"figures": figures, "summary": run.summary()}


def smolvla(folder: Path, found: Json) -> Json:
    run, memory = interleaved(found["latencies_ns"]), found["memory_mb"]
    ratios = [
        {
            **run.ratio(row["slow"], row["fast"]).as_dict(),
            "rss_share": memory[row["fast"]]["rss_mb"] / memory[row["slow"]]["rss_mb"],
        }
        for row in found["ratios"]
    ]
    return {"latency": run.summary(), "ratios": ratios}


def search(folder: Path, found: Json) -> Json:
    run = interleaved(found["latencies_ns"])
    summary = run.summary()
    rows = [{key: summary[row["name"]][key] for key in ("p50_ms", "p99_ms")} for row in found["rows"]]
    return {"rows": rows, "ratios": [run.ratio(row["slow"], row["fast"]).as_dict() for row in found["ratios"]]}


def demo(folder: Path, found: Json) -> Json:
    """Latencies, ratios, wake-ups, and the paired counts from the tasks' own."""
    from export.evidence.paired import PairCounts, compare_counts

    figures = found["figures"]
    run, wake = interleaved(figures["latencies_ns"]), np.sort(np.asarray(figures["ticks"]["wake_ns"], np.int64))
    summary = run.summary()
    named = (("teacher", "teacher_eager", ""), ("teacher", "teacher_fp32", "ort_fp32_"),
             ("student_fp32", "student_fp32", ""), ("student_int8", "student_int8", ""))  # fmt: skip
    models: dict[str, dict[str, float]] = {}
    for model, name, prefix in named:
        times = {f"{prefix}{key}": round(summary[name][key], 4) for key in ("p50_ms", "p99_ms")}
        models[model] = models.get(model, {}) | times
    sums = {key: sum(row[key] for row in figures["per_task"]) for key in figures["per_task"][0] if key != "task"}
    both = sums["teacher"] - sums["only_teacher"]
    neither = sums["pairs"] - both - sums["only_teacher"] - sums["only_int8"]
    verdict = compare_counts(PairCounts(both, sums["only_teacher"], sums["only_int8"], neither))
    shares = {key: sums[key] / sums["pairs"] for key in ("teacher", "student_fp32", "student_int8")}
    return {
        "models": models,
        "figures": {"ratios": [run.ratio(row["slow"], row["fast"]).as_dict() for row in figures["ratios"]]},
        "success": {
            **shares, "pairs": sums["pairs"], "loss": verdict.loss, "loss_interval95": [verdict.low, verdict.high],
            "loss_upper95": verdict.upper95, "mcnemar_p": verdict.mcnemar_p,
        },
        "loop": {
            "ticks": int(wake.size),
            **{f"wake_p{name}_us": float(wake[nearest_rank(wake.size, share)]) / 1e3
               for name, share in (("99", 0.99), ("999", 0.999))},
        },
    }  # fmt: skip


def peers(folder: Path, found: Json) -> Json:
    """Every row from the windows; what a model is (parameters, note) is taken from its rows."""
    from bench.peers import buses, loops, models
    from bench.peers.case import Case

    def windows(kind: str, what: str, **more: Any) -> list[Json]:
        wanted = {"kind": kind, "what": what, **more}
        return [told["found"] for told in found["windows"] if all(told["window"][k] == v for k, v in wanted.items())]

    by_kind = {kind: [row for row in found["rows"] if row["kind"] == kind] for kind in ("model", "loop", "bus")}
    rows: list[Json] = []
    for label in dict.fromkeys(row["subject"] for row in by_kind["model"]):
        row = next(row for row in by_kind["model"] if row["subject"] == label)
        case = Case(label, row["parameters"], row["note"], (), {}, 0, "")  # the rest says nothing of a row
        for threads in found["threads"]:
            rows += models.rows(case, label, threads, windows("model", label, threads=threads))
    for fps, load in dict.fromkeys((row["fps"], row["load"]) for row in by_kind["loop"]):
        rows += loops.rows(fps, load, {name: windows("loop", name, load=load) for name in loops.CONFIGURED})
    for protocol in dict.fromkeys(row["protocol"] for row in by_kind["bus"]):
        rows += buses.rows(protocol, windows("bus", protocol))
    return {"rows": rows}


def scaling(folder: Path, found: Json) -> Json:
    """Curves, exponents and walls from the raw samples of each axis."""
    from bench.scaling.axes import AXES, QUICK
    from bench.scaling.result import axis_result, first_wall

    limits = {"policy": found["period_ms"], "budget": found["latency_budget_ms"], "servo": found["servo_share_limit"]}
    axes = {axis.name: axis for axis in (QUICK if found["quick"] else AXES)}
    results = [axis_result(axes[raw["axis"]], raw, limits) for raw in found["raw"]]
    return {"axes": results, "first_wall": first_wall(results)}


# --- from rows ---


def bus_run(folder: Path, found: Json) -> Json:
    from bench.bus.result import missed

    return {"rows": [{"missed": missed(row)} for row in found["rows"]]}


def steady(folder: Path, found: Json) -> Json:
    from bench.steady import LIMITS

    runs = found["runs"]
    figures = {name: runs[mode][name] for name, (mode, _, _) in LIMITS.items()}
    return {**figures, "ticks": min(run["ticks"] for run in runs.values())}


def teacher_memory(folder: Path, found: Json) -> Json:
    from bench.teacher_memory import summary

    return summary(found["rows"])


def powercut(folder: Path, found: Json) -> Json:
    """The totals from the chapters."""
    of = {"calls": "calls", "points": "states", "distinct_trees": "distinct", "boots": "boots", "kills": "kills"}
    chapters = found["chapters"]
    totals = {name: sum(one[key] for one in chapters) for name, key in of.items()}
    return {**totals, "releases_lost": sum(len(one["lost"]) for one in chapters)}


def stand_in(folder: Path, found: Json) -> Json:
    """Twin and nspawn: broken where a check is."""
    return {"verdict": "kept" if all(check["kept"] == "yes" for check in found["checks"]) else "broken"}


def fleet(folder: Path, found: Json) -> Json:
    return {"kept": not found["broken"]}


# --- from rows of episodes ---


def delay(folder: Path, found: Json) -> Json:
    """Goal and cells from delay.parquet."""
    from bench.delay import journal
    from bench.delay.table import goal, summarise

    rows = journal.read(folder / "delay.parquet")
    if not rows:
        raise BadInput(explain("delay.parquet has no rows", "played episodes", "none", "restore it"))
    return {"policy": rows[0].policy, "goal": goal(rows), "cells": summarise(rows)}


def evidence(folder: Path, found: Json) -> Json:
    """metaworld/evidence.json from its outcomes."""
    import argparse
    import contextlib
    import io

    from examples.metaworld.evidence import Player, measure

    nothing = argparse.Namespace(bundle=None, teacher=None, demos_only=None, without_z=None, blank=None)
    with contextlib.redirect_stdout(io.StringIO()):  # it tells its progress
        return measure(Player(folder / "metaworld" / "outcomes", recount=True), nothing)


def mt10_evaluation(folder: Path, found: Json) -> Json:
    """Success, pairs and half-way scenes from the outcomes."""
    from examples.metaworld.mt.evaluate import recounted

    return recounted(folder / "mt10")


def mt10_robustness(folder: Path, found: Json) -> Json:
    """Every point of every curve from the outcomes."""
    from examples.metaworld.mt.robustness import recounted

    return recounted(folder / "mt10")


def mt10_ablations(folder: Path, found: Json) -> Json:
    """A row a training from its episodes, and what may be said of them."""
    from examples.metaworld.mt.ablations import recounted

    return recounted(found)


def mt10_starts(folder: Path, found: Json) -> Json:
    """Successes of every candidate, and the chosen one."""
    from examples.metaworld.mt.starts import recounted

    return recounted(folder / "mt10", found)


def mt10_realtime(folder: Path, found: Json) -> Json:
    """Success, pairs and sums from its runs, and from the same episodes in lockstep."""
    from examples.metaworld.mt.realtime import recounted

    return recounted(folder / "mt10")
