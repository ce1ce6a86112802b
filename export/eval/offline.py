"""`edgevla eval BUNDLE --data DATASET`: the two evaluations that need neither a simulator nor an arm, as reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import profiles
from edgevla.bundle import Bundle, open_bundle
from edgevla.cli.output import kept, print_table, say
from edgevla.control.timing import delay_ticks
from edgevla.errors import Refused, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.stats import summarise
from export.distill.progress import Reporter
from export.eval.budget import Budget
from export.eval.error import judge, measure
from export.eval.record import Record, open_record
from export.eval.replay import Replay, delays_of, replay, with_delay
from export.eval.selection import Selection, frames_of, select
from export.evidence.rollouts import loop_of

WORK = Path("out/work")  # decoded video of datasets
OPEN_LOOP = "open loop: the record does not react to what is commanded"
NO_PREFIX = "trained without a prefix: it gets none, and is compared from row 0 on, as if it answered at once (d = 0)"


def evaluate_error(
    path: Path, data: Path, episodes: str, share: float | None, frames: int, budget: Budget, loud: bool
) -> dict[str, Any]:
    """Report of the action error on held-out frames; `kept` says whether the budget holds."""
    bundle = open_bundle(path)
    record, selection = _record(bundle, data, episodes, share)
    delay, acting = _acting(bundle)
    ticks = frames_of(record, selection, delay + acting, frames)
    shipped, fp32 = PolicyEngine(bundle), PolicyEngine(bundle, float_model=True)
    reporter = Reporter(f"{len(ticks)} frames", len(ticks), loud)
    manifest = bundle.manifest
    found = measure(record, ticks, manifest, shipped, fp32, delay, acting, reporter.show)
    reporter.close()
    checks = judge(found, manifest, budget)
    return {
        "schema": "edgevla.eval-error/2",
        **_head(bundle, record, selection),
        "frames": found.frames,
        "rows": [found.delay, found.delay + found.acting - 1],
        "prefix": NO_PREFIX if manifest.timing.d_max == 0 else f"{delay} rows, as commanded",
        "bundle_vs_fp32": found.graphs.as_dict(),
        "bundle_vs_record": found.shipped.as_dict(),
        "fp32_vs_record": found.fp32.as_dict(),
        "budget": budget.as_dict(),
        "checks": [check.as_dict() for check in checks],
        "kept": all(check.kept for check in checks),
        "host": describe_host(),
    }


def evaluate_replay(path: Path, data: Path, episodes: str, share: float | None, loud: bool) -> dict[str, Any]:
    """Report of recorded episodes through the schedule, and of the seam at every d that the bundle allows."""
    bundle = open_bundle(path)
    _require_prefix(bundle)
    record, selection = _record(bundle, data, episodes, share)
    loop, engine = loop_of(bundle.path), PolicyEngine(bundle)
    delays = delays_of(loop, bundle.manifest)
    reporter = Reporter("replay", len(delays) * len(selection.numbers), loud)
    played: dict[int, list[Replay]] = {}
    for delay in delays:
        played[delay] = []
        for number in selection.numbers:
            played[delay].append(replay(engine, record, number, bundle.manifest, with_delay(loop, delay)))
            reporter.show(sum(map(len, played.values())))
    reporter.close()
    names = [channel.name for channel in bundle.manifest.channels]
    return {
        "schema": "edgevla.eval-replay/1",
        "label": OPEN_LOOP,
        **_head(bundle, record, selection),
        "delay": loop.schedule.delay,
        "replan": loop.schedule.replan,
        "episodes": [_episode(part, names) for part in played[loop.schedule.delay]],
        "seams": [_seam(delay, parts, names) for delay, parts in played.items()],
        "host": describe_host(),
    }


def _record(bundle: Bundle, data: Path, episodes: str, share: float | None) -> tuple[Record, Selection]:
    record = open_record(data, bundle.manifest, WORK)
    return record, select(record, episodes, share)


def _acting(bundle: Bundle) -> tuple[int, int]:
    """First row that acts and how many do, as the target replans; from row 0 on without a prefix."""
    timing, target = bundle.manifest.timing, profiles.load_target(bundle.manifest.target)
    if timing.d_max == 0:
        return 0, min(target.replan_ticks, timing.horizon)
    delay = min(delay_ticks(target.latency_budget_s, timing.period_s), timing.d_max)
    return delay, min(target.replan_ticks, timing.horizon - delay)  # the error is told even where the loop cannot hold


def _require_prefix(bundle: Bundle) -> None:
    if bundle.manifest.timing.d_max == 0:
        todo = "evaluate without --replay, or distil it: `edgevla compress` trains students with a prefix"
        expected = "a policy that was trained with a prefix, as the loop commits ticks while it waits"
        raise Refused(explain(f"replay of {bundle.manifest.name}", expected, "d_max 0", todo))


def _head(bundle: Bundle, record: Record, selection: Selection) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": {"name": manifest.name, "artifact": manifest.artifact, "student_sha256": manifest.student.sha256},
        "record": {"name": record.name, "sha256": record.sha256},
        "selection": {"said": selection.said, "episodes": list(selection.numbers), "note": selection.note},
        "cameras": {camera.name: record.cameras.get(camera.name, "absent") for camera in manifest.cameras},
        "channels": [
            {"name": c.name, "unit": c.unit, "kind": c.kind, "range": [c.minimum, c.maximum]} for c in manifest.channels
        ],
    }


def _episode(part: Replay, names: Sequence[str]) -> dict[str, Any]:
    off = part.departure
    channels = {
        name: {"p50": float(np.median(off[:, i])), "max": float(off[:, i].max()), "end": float(off[-1, i])}
        for i, name in enumerate(names)
    }
    return {"episode": part.episode, "instruction": part.instruction, "ticks": len(off), "departure": channels}


def _seam(delay: int, parts: Sequence[Replay], names: Sequence[str]) -> dict[str, Any]:
    jumps = np.concatenate([part.seams for part in parts])
    if not len(jumps):
        return {"d": delay, "seams": 0, "jump": {}}
    return {
        "d": delay,
        "seams": len(jumps),
        "jump": {name: summarise(jumps[:, i]).as_dict() for i, name in enumerate(names)},
    }


# --- for people ---


def print_error_report(report: Mapping[str, Any]) -> None:
    """Errors per channel, then the budget line by line."""
    bundle, record, selection = report["bundle"], report["record"], report["selection"]
    first, last = report["rows"]
    say(f"{bundle['name']} ({bundle['artifact']}) on {record['name']}: {selection['said']}", "bold")
    say(f"{report['frames']} frames of {len(selection['episodes'])} episodes, worst of rows {first} to {last}")
    say(f"prefix: {report['prefix']}")
    say(selection["note"])
    rows = []
    for channel in report["channels"]:
        for title, key in (
            ("bundle against FP32", "bundle_vs_fp32"),
            ("bundle against the record", "bundle_vs_record"),
            ("FP32 against the record", "fp32_vs_record"),
        ):
            s = report[key]["channels"][channel["name"]]
            figures = (_figure(s[part]) for part in ("p50", "p99", "maximum"))
            rows.append((channel["name"], title, channel["unit"], *figures))
    print_table("action error", ["channel", "what", "unit", "p50", "p99", "max"], rows)
    flips = [
        (title, f"{100 * report[key]['gripper_flips']:.2f} %", report[key]["gripper_flip_frames"])
        for title, key in (("bundle against FP32", "bundle_vs_fp32"), ("bundle against the record", "bundle_vs_record"))
    ]
    print_table("gripper flips", ["what", "of acting rows", "frames with one"], flips)
    lines = [(c["what"], _figure(c["limit"]), _figure(c["got"]), c["unit"], kept(c["kept"])) for c in report["checks"]]
    print_table("budget", ["what", "at most", "got", "unit", ""], lines)


def print_replay_report(report: Mapping[str, Any]) -> None:
    """Departure per episode, then the seam at each d."""
    bundle, record, selection = report["bundle"], report["record"], report["selection"]
    say(f"{bundle['name']} ({bundle['artifact']}) on {record['name']}: {selection['said']}", "bold")
    say("OPEN LOOP: the record does not react to what is commanded")
    say(selection["note"])
    names = [f"{c['name']} [{c['unit']}]" for c in report["channels"]]
    keys = [c["name"] for c in report["channels"]]
    rows = []
    for part in report["episodes"]:
        off = part["departure"]
        cells = (f"{_figure(off[k]['p50'])} / {_figure(off[k]['max'])} / {_figure(off[k]['end'])}" for k in keys)
        rows.append((part["episode"], part["instruction"], part["ticks"], *cells))
    title = f"commanded against recorded set-point at d = {report['delay']}: p50 / max / at the end"
    print_table(title, ["episode", "instruction", "ticks", *names], rows)
    seams = []
    for part in report["seams"]:
        jump = part["jump"]
        cells = (" / ".join(_figure(jump[k][q]) for q in ("p50", "p99", "maximum")) if jump else "-" for k in keys)
        seams.append((part["d"], part["seams"], *cells))
    print_table("jump at the seam: p50 / p99 / max", ["d", "seams", *names], seams)


def _figure(value: float) -> str:
    return f"{value:.3g}"
