"""Sections on size, speed, time and the host: report in, HTML out; what is missing is said as missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from bench.budgets import Verdict, check_budgets
from bench.report import charts, parts, text
from bench.report.data import Assets, array, as_array, as_number, get, indices, number, rows
from edgevla.errors import BadInput, explain
from edgevla.telemetry.png import data_uri

Report = Mapping[str, Any]
MODEL_CLASS = {"teacher": "c-teacher", "student_fp32": "c-fp32", "student_int8": "c-int8"}
IN_DEMO = "The step that measures it did not run or did not finish."


def tiles(report: Report, assets: Assets) -> str:
    """The headline figures."""
    p50 = {name: number(report, f"models.{name}.p50_ms") for name in text.MODELS}
    sizes = {name: number(report, f"models.{name}.bytes") for name in text.MODELS}
    success = {name: number(report, f"success.{name}") for name in text.MODELS}
    ticks, late = number(report, "loop.ticks"), number(report, "loop.late_commands")
    pairs = text.whole(number(report, "success.pairs"))
    bound = text.percent(number(report, "success.loss_upper95"))
    wake99 = _us(number(report, "loop.wake_p99_us"))
    entries = [
        (
            text.ms(p50["student_int8"]),
            "per action chunk, int8",
            f"p50; p99 {text.ms(_p99(report, 'student_int8'))}",
        ),
        (
            text.times(_over(p50["teacher"], p50["student_int8"])),
            "faster than the teacher",
            "torch eager, same run, p50",
        ),
        (
            text.times(_over(p50["student_fp32"], p50["student_int8"])),
            "faster than FP32",
            "same student, same runtime",
        ),
        (
            text.times(_over(sizes["teacher"], sizes["student_int8"])),
            "smaller than the teacher",
            _sizes(sizes),
        ),
        (
            text.percent(success["student_int8"]),
            "success, int8",
            f"teacher {text.percent(success['teacher'])}; {pairs} pairs; loss < {bound} (95 %)",
        ),
        (text.whole(late), "late commands", f"in {text.whole(ticks)} control ticks"),
        (_us(number(report, "loop.wake_p999_us")), "wake latency p99.9", f"p99 {wake99}"),
        (text.seconds(number(report, "total_s")), "whole demo", "wall time"),
    ]
    return f'<div class="tiles">{"".join(parts.tile(*entry) for entry in entries)}</div>'


def _p99(report: Report, name: str) -> float | None:
    return number(report, f"models.{name}.p99_ms")


def _us(value: float | None) -> str:
    return text.duration(None if value is None else value * 1e3)


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _sizes(sizes: Mapping[str, float | None]) -> str:
    return f"{text.size(sizes['teacher'])} → {text.size(sizes['student_int8'])}"


def models(report: Report, assets: Assets) -> str:
    """What was compressed into what."""
    measures: list[tuple[str, str, Callable[[float | None], str]]] = [
        ("parameters", "Parameters", text.count),
        ("bytes", "Bytes on disk", text.size),
        ("macs", "Multiply-adds per chunk", text.count),
    ]
    drawings = []
    for field, title, show in measures:
        known = [(m, number(report, f"models.{m}.{field}")) for m in text.MODELS]
        bar_rows = [(text.MODELS[m], v, show(v), MODEL_CLASS[m]) for m, v in known if v is not None]
        absent = [text.MODELS[m] for m, v in known if v is None]
        gap = parts.missing(f"{title.lower()} of {', '.join(absent)}", IN_DEMO) if absent else ""
        drawings.append(f"<div><h3>{title}</h3>{parts.bars(bar_rows) if bar_rows else ''}{gap}</div>")
    head = ["Model", "Parameters", "Bytes", "MACs per chunk", "p50", "p99", "Success"]
    return parts.section(
        "models",
        "What was compressed into what",
        "A multi-step flow-matching teacher, distilled to a one-pass student, then quantized to int8. "
        "The int8 model is "
        "what the bundle carries and the robot runs.",
        f'<div class="trio">{"".join(drawings)}</div>',
        parts.table(head, [_model_row(report, model) for model in text.MODELS]),
        parts.foot(report, "models"),
    )


def _model_row(report: Report, model: str) -> list[str]:
    entry = f"models.{model}."
    figures = [
        text.count(number(report, entry + "parameters")),
        text.size(number(report, entry + "bytes")),
        text.count(number(report, entry + "macs")),
        text.ms(number(report, entry + "p50_ms")),
        text.ms(number(report, entry + "p99_ms")),
        text.percent(number(report, f"success.{model}")),
    ]
    return [escape(text.MODELS[model]), *map(parts.cell, figures)]


def latency(report: Report, assets: Assets) -> str:
    """Histograms and the interleaved ratios."""
    run = get(report, "figures.latency_run") or {}
    series = _latency_series(report, assets)
    absent = [label for name, label in text.LATENCIES.items() if name not in {s for s, _ in series}]
    body = []
    if series:
        rows_ = [charts.Series(text.LATENCIES.get(n, n), a, charts.colour_of(n)) for n, a in series]
        body.append(charts.both_widths(charts.latency_ridges, rows_))
    if absent:
        body.append(parts.missing("latency of " + "; ".join(absent), IN_DEMO))
    ratios = rows(report, "figures.ratios")
    head = ["Ratio, round by round", "Median", "95 % interval", "Rounds"]
    body.append(parts.table(head, [_ratio_row(r) for r in ratios]) if ratios else parts.missing("ratios", IN_DEMO))
    facts = [
        f"{int(run[field])} {words}{'s' * (field == 'threads' and run[field] != 1)}"
        for field, words in (("threads", "thread"), ("rounds", "rounds"), ("warmup", "warm-up rounds"))
        if as_number(run.get(field)) is not None
    ]
    if as_number(run.get("stolen_s")) is not None:
        facts.append(f"{float(run['stolen_s']):.2f} s of CPU time stolen by the hypervisor during the run")
    lead = (
        "One interleaved run: every round calls each model once, in random order, garbage collection "
        "off. Solid line "
        "p50, dashed p99; logarithmic axis. " + escape("; ".join(facts))
    )
    return parts.section("latency", "Latency per stage", lead, *body, parts.foot(report, "latency"))


def _latency_series(report: Report, assets: Assets) -> list[tuple[str, Any]]:
    given = get(report, "figures.latencies_ns") or {}
    if not isinstance(given, Mapping):
        raise BadInput(explain("report: figures.latencies_ns", "an object", type(given).__name__, "see schema.md"))
    names = [n for n in text.LATENCIES if n in given] + sorted(set(given) - set(text.LATENCIES))
    found = [(n, as_array(given[n], assets, f"figures.latencies_ns.{n}")) for n in names]
    return [(n, a.astype(np.int64)) for n, a in found if a is not None]


def _ratio_row(ratio: Mapping[str, Any]) -> list[str]:
    slow, fast = (text.LATENCIES.get(str(ratio.get(k)), str(ratio.get(k))) for k in ("slow", "fast"))
    low, high = (text.times(as_number(ratio.get(k))) for k in ("low", "high"))
    median = parts.cell(text.times(as_number(ratio.get("median"))))
    return [
        escape(f"{slow} / {fast}"),
        f"<b>{median}</b>",
        f"{low} to {high}",
        text.whole(as_number(ratio.get("rounds"))),
    ]


def loop(report: Report, assets: Assets) -> str:
    """Jitter of the control tick over time."""
    wake = array(report, "figures.ticks.wake_ns", assets)
    period_s = number(report, "figures.ticks.period_s")
    misses = indices(get(report, "figures.ticks.release_misses"))
    body = []
    if wake is not None and period_s:
        starts = indices(get(report, "figures.ticks.episode_starts"))
        servo_s = number(report, "figures.ticks.servo_period_s") or period_s
        drawn = charts.Ticks(wake, period_s, misses, starts, servo_s / 2 * 1e9)
        body.append(charts.both_widths(charts.tick_raster, drawn))
    else:
        body.append(parts.missing("wake latency of every tick", IN_DEMO))
    head = [
        "Ticks",
        "Late commands",
        "Runs played again",
        "Servo misses",
        "Release misses",
        "p99",
        "p99.9",
        "Max",
        "CPU time stolen",
    ]
    most = None if wake is None else float(wake.max())
    release = number(report, "loop.release_misses")
    figures = [
        text.whole(number(report, "loop.ticks")),
        text.whole(number(report, "loop.late_commands")),
        text.whole(number(report, "loop.runs_again")),
        text.whole(number(report, "loop.misses")),
        text.whole(release if release is not None else float(len(misses)) if wake is not None else None),
        _us(number(report, "loop.wake_p99_us")),
        _us(number(report, "loop.wake_p999_us")),
        text.duration(most),
        text.seconds(number(report, "figures.ticks.stolen_s")),
    ]
    body.append(parts.table(head, [[parts.cell(f) for f in figures]]))
    if get(report, "figures.ticks.best_effort"):
        body.append('<div class="banner">Best effort: no real-time priority was to be had for this run.</div>')
    body += _many(report)
    lead = (
        "How late the servo process woke for each control tick (absolute deadlines). Red triangles: a "
        "chunk that was not "
        "there at tick k + d. Marks on the axis: start of an episode. A late command is never sent, only "
        "counted; the "
        "observed maximum is no bound."
    )
    return parts.section("loop", "Tick jitter over time", lead, *body, parts.foot(report, "loop"))


def _many(report: Report) -> list[str]:
    """What became of the runs of the policy of ten tasks; nothing where it did not run."""
    tasks = get(report, "many.tasks")
    if not isinstance(tasks, Mapping) or not tasks:
        return []
    late = text.whole(number(report, "many.late_commands"))
    told = ", ".join(f"{escape(str(task))} {'done' if done else 'not done'}" for task, done in tasks.items())
    return [f"<p>The committed policy of ten tasks, over the same line by the clock: {told}; {late} late commands.</p>"]


def parity(report: Report, assets: Assets) -> str:
    """Per stage: how far one form of the model is from the other."""
    entries = rows(report, "figures.parity")
    head = ["Stage", "Compared", "Samples", "Max |error|", "Relative rms", "Min cosine", "Tolerance", ""]
    made = [
        [
            escape(str(e.get("stage", "?"))),
            escape(f"{e.get('reference', '?')} → {e.get('candidate', '?')}"),
            parts.cell(text.whole(as_number(e.get("samples")))),
            parts.cell(text.small(as_number(e.get("max_abs")))),
            parts.cell(text.small(as_number(e.get("rel_rms")))),
            parts.cell(_cosine(as_number(e.get("cosine_min")))),
            parts.cell(str(e.get("tolerance", text.MISSING))),
            parts.verdict_tag(e["within"] if isinstance(e.get("within"), bool) else None),
        ]
        for e in entries
    ]
    return parts.section(
        "parity",
        "Parity per stage",
        "The same inputs through both forms of a stage. First FP32 against the exported graph, then int8 "
        "against FP32; "
        "the last stage is the action chunk, in normalised action units.",
        parts.table(head, made, left=(1,)) if made else parts.missing("parity", IN_DEMO),
        parts.foot(report, "parity"),
    )


def _cosine(value: float | None) -> str:
    return text.MISSING if value is None else f"{value:.6f}"


def frames(report: Report, assets: Assets) -> str:
    """A strip of one episode as the policy saw it."""
    images = array(report, "figures.frames.images", assets)
    ticks = indices(get(report, "figures.frames.ticks"))
    period_s = number(report, "figures.ticks.period_s")
    entry = get(report, "figures.frames") or {}
    body = parts.missing("frames of an episode", "Record one with edgevla run --record.")
    if images is not None:
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype.kind not in "iu":
            raise BadInput(
                explain("report: figures.frames.images", "uint8 (n, h, w, 3)", images.shape, "see schema.md")
            )
        pictures = [_frame(images[i], i, ticks, period_s) for i in _spread_over(len(images), 16)]
        body = f'<div class="strip">{"".join(pictures)}</div>'
    known = [str(entry[k]) for k in ("model", "task") if entry.get(k)]
    known += [f"instruction “{entry['instruction']}”"] if entry.get("instruction") else []
    known += [f"seed {entry['seed']}"] if entry.get("seed") is not None else []
    known += ["success" if entry["success"] else "no success"] if isinstance(entry.get("success"), bool) else []
    lead = "What the camera gave the policy, in order. " + escape(" · ".join(known))
    return parts.section("frames", "One episode", lead, body, parts.foot(report, "frames"))


def _frame(image: Any, index: int, ticks: Sequence[int], period_s: float | None) -> str:
    words = f"frame {index}"
    if index < len(ticks):
        words = f"tick {ticks[index]:,}" + (f" · {ticks[index] * period_s:.2f} s" if period_s else "")
    picture = f'<img src="{data_uri(image.astype(np.uint8))}" alt="{words}">'
    return f"<figure>{picture}<figcaption>{words}</figcaption></figure>"


def _spread_over(n: int, most: int) -> list[int]:
    """At most ``most`` indices, first and last among them."""
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, most)).round()})


def claims(report: Report, assets: Assets) -> str:
    """What `edgevla check` proved, bounded or only observed."""
    entries = rows(report, "figures.claims")
    head = ["Claim", "Kind", "Left", "Right", "Unit", "Samples", ""]
    made = [
        [
            escape(str(c.get("text") or c.get("name", "?"))),
            escape(str(c.get("kind", text.MISSING))),
            parts.cell(text.small(as_number(c.get("left")))),
            parts.cell(text.small(as_number(c.get("right")))),
            escape(str(c.get("unit") or "")),
            text.whole(as_number(c.get("samples"))) if c.get("samples") else "·",
            parts.verdict_tag(c["kept"] if isinstance(c.get("kept"), bool) else None),
        ]
        for c in entries
    ]
    return parts.section(
        "claims",
        "The timing contract",
        "Proved: arithmetic on declared numbers. Bounded: p99.9 at 99 % confidence from at least 4,603 "
        "samples. Observed: "
        "what was seen, no bound. The three are never mixed.",
        parts.table(head, made, left=(1, 4)) if made else parts.missing("the verdicts of edgevla check", IN_DEMO),
        parts.foot(report, "claims"),
    )


def budgets(report: Report, assets: Assets) -> str:
    """Limits declared beforehand and what came."""
    verdicts = check_budgets(report)
    made = [
        [
            escape(v.budget.name),
            escape(f"{text.SENSE[v.budget.sense]} {text.in_unit(v.budget.limit, v.budget.unit)}"),
            parts.cell(text.in_unit(v.value, v.budget.unit)),
            parts.verdict_tag(v.kept),
        ]
        for v in verdicts
    ]
    return parts.section(
        "budgets",
        "Budgets",
        f"Limits written down before the run (bench/budgets/demo.toml): {_tally(verdicts)}.",
        parts.table(["Budget", "Limit", "Measured", ""], made),
        parts.foot(report, "budgets"),
    )


def _tally(verdicts: Sequence[Verdict]) -> str:
    kept, broken = (sum(v.kept is want for v in verdicts) for want in (True, False))
    return f"{kept} kept, {broken} broken, {len(verdicts) - kept - broken} missing"


def steps(report: Report, assets: Assets) -> str:
    """Wall time of each step."""
    given = get(report, "steps_s") or {}
    known = [
        (str(k), v, text.seconds(v), "c-stage")
        for k, v in ((k, as_number(v)) for k, v in given.items())
        if v is not None
    ]
    total = number(report, "total_s")
    return parts.section(
        "steps",
        "Wall time of each step",
        f"The whole demo took {escape(text.seconds(total))}." if total is not None else "The total was not recorded.",
        parts.bars(known) if known else parts.missing("wall time per step", IN_DEMO),
        parts.foot(report, "steps"),
    )


def limits(report: Report, assets: Assets) -> str:
    """What these figures do not say."""
    pairs = text.whole(number(report, "success.pairs"))
    rounds = as_number(get(report, "figures.latency_run.rounds"))
    items = [
        *text.LIMITS,
        f"{pairs} pairs say whether something broke; not non-inferiority at 3 points: the long run does.",
        f"p99 of a latency rests on the slowest 1 % of {text.whole(rounds)} rounds.",
        *(str(item) for item in get(report, "figures.limits") or []),
    ]
    body = "".join(f"<li>{escape(item)}</li>" for item in items)
    return parts.section("limits", "Limits", "Read before quoting.", f'<ul class="plain">{body}</ul>')


def host(report: Report, assets: Assets) -> str:
    """The machine in full."""
    entry = get(report, "host")
    if not isinstance(entry, Mapping) or not entry:
        return parts.section(
            "host", "Host", "", parts.missing("the host", "Call edgevla.telemetry.host.describe_host().")
        )
    made = [[escape(str(name)), escape(_plain(value))] for name, value in entry.items()]
    return parts.section(
        "host",
        "Host",
        "Every figure without another host under it was measured here.",
        parts.table(["", ""], made, left=(1,)),
    )


def _plain(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
