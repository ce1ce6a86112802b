"""Sections on how well the models do: paired success, words, controls of the distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.report import charts, parts, text
from bench.report.data import Assets, as_number, get, number, rows
from bench.report.sections import IN_DEMO, MODEL_CLASS, Report
from edgevla.errors import BadInput, explain
from edgevla.telemetry.stats import wilson_interval
from export.evidence.paired import PairCounts, compare_counts


def success(report: Report, assets: Assets) -> str:
    """Paired success, task by task."""
    entries = rows(report, "figures.per_task")
    body = []
    if entries:
        drawn = [(str(e.get("task", "?")), _shares(e)) for e in entries]
        body.append(parts.key((text.MODELS[m], MODEL_CLASS[m]) for m in text.MODELS))
        body.append(charts.both_widths(charts.forest, drawn))
        body.append(_paired_table(report, entries))
    else:
        body.append(parts.missing("success per task", IN_DEMO))
        body.append(_success_totals(report))
    body.append(_sequential(report))
    lead = (
        "The same seeds for every model, so each seed is a pair. Dots with Wilson 95 % intervals; the "
        "loss is teacher minus "
        "int8 with Tango's score interval for paired proportions, and its one-sided upper 95 % bound."
    )
    return parts.section("success", "Success, paired over the same seeds", lead, *body, parts.foot(report, "success"))


def _shares(entry: Mapping[str, Any]) -> list[charts.Share]:
    pairs = int(as_number(entry.get("pairs")) or 0)
    out = []
    for model in text.MODELS:
        wins = as_number(entry.get(model))
        if wins is not None and pairs > 0:
            out.append(charts.Share(wins / pairs, *wilson_interval(int(wins), pairs), MODEL_CLASS[model]))
    return out


def _paired_table(report: Report, entries: Sequence[Mapping[str, Any]]) -> str:
    head = [
        "Task", "Pairs", *text.MODELS.values(), "Only teacher", "Only int8",
        "Loss, points", "95 % interval", "Upper 95 %", "McNemar p",
    ]  # fmt: skip
    names = ("pairs", *text.MODELS, "only_teacher", "only_int8")
    sums: dict[str, Any] = {"task": "All tasks"}
    for name in names:
        values = [as_number(e.get(name)) for e in entries]
        sums[name] = None if any(v is None for v in values) else sum(v for v in values if v is not None)
    return parts.table(head, [_paired_row(e) for e in (*entries, sums)], total=True)


def _paired_row(entry: Mapping[str, Any]) -> list[str]:
    pairs, only_t, only_q, teacher, _ = (
        as_number(entry.get(k)) for k in ("pairs", "only_teacher", "only_int8", "teacher", "student_int8")
    )
    shares = [
        text.MISSING if wins is None or not pairs else f"{wins:.0f} ({100 * wins / pairs:.1f} %)"
        for wins in (as_number(entry.get(model)) for model in text.MODELS)
    ]
    row = [str(entry.get("task", "?")), text.whole(pairs), *shares, text.whole(only_t), text.whole(only_q)]
    if pairs and only_t is not None and only_q is not None and teacher is not None:
        both = int(teacher - only_t)
        counts = PairCounts(both, int(only_t), int(only_q), int(pairs) - both - int(only_t) - int(only_q))
        if min(counts.both, counts.neither) < 0:
            raise BadInput(explain("report: figures.per_task counts contradict", "cells >= 0", dict(entry), "re-count"))
        c = compare_counts(counts)
        row += [text.points(c.loss), f"{text.points(c.low)} to {text.points(c.high)}", text.points(c.upper95)]
        row.append(f"{c.mcnemar_p:.3f}")
    else:
        row += [text.MISSING] * 4
    return [parts.cell(value) for value in row]


def _success_totals(report: Report) -> str:
    head = ["Model", "Success"]
    return parts.table(
        head,
        [[escape(label), parts.cell(text.percent(number(report, f"success.{m}")))] for m, label in text.MODELS.items()],
    )


def _sequential(report: Report) -> str:
    found = get(report, "figures.sequential")
    title = "<h3>Committed evidence: group-sequential non-inferiority</h3>"
    if not isinstance(found, Mapping):
        return title + parts.missing(
            "the long paired run (up to 1,000 pairs)", "It belongs to the evidence, not to the demo."
        )
    decision = str(found.get("decision"))
    kind = {"non-inferior": "good", "not shown": "bad"}.get(decision, "open")
    margin, alpha = (as_number(found.get(k)) for k in ("margin", "alpha"))
    head = ["Pairs", "Loss, points", "z", "Boundary", "Alpha spent", "Upper bound (repeated)", ""]
    made = [
        [
            text.whole(as_number(look.get("pairs"))),
            text.points(as_number(look.get("loss"))),
            text.small(as_number(look.get("z"))),
            text.small(as_number(look.get("boundary"))),
            text.percent(as_number(look.get("alpha_spent")), 2),
            text.points(as_number(look.get("upper_bound"))),
            parts.tag("crossed", "good") if look.get("non_inferior") else parts.tag("not crossed", "open"),
        ]
        for look in rows(found, "looks")
    ]
    declared = ", ".join(text.whole(as_number(n)) for n in found.get("declared_looks") or [])
    words = (
        f"Margin {text.points(margin)} points, one-sided alpha {text.percent(alpha)}, looks declared "
        "beforehand at "
        f"{declared} pairs, O'Brien-Fleming-like spending. Decision: "
    )
    return f'{title}<p class="lead">{escape(words)}{parts.tag(decision, kind)}</p>{parts.table(head, made)}'


def words(report: Report, assets: Assets) -> str:
    """Half-way scenes: the same picture, two instructions."""
    entries = rows(report, "figures.halfway")
    body = []
    head = ["Scene", "Instruction", "Model", "Episodes", "Moved the named way", "95 % interval"]
    made = [_halfway_row(e) for e in entries]
    body.append(parts.table(head, made, left=(1, 2)) if made else parts.missing("half-way scenes one by one", IN_DEMO))
    totals = [
        ("Trained with the words", number(report, "success.halfway")),
        ("Same model, blank words in training", number(report, "success.blank_words")),
    ]
    body.append("<h3>All half-way scenes together</h3>")
    known = [
        (name, v, text.percent(v), ("c-int8", "c-stage")[i]) for i, (name, v) in enumerate(totals) if v is not None
    ]
    body.append(parts.bars(known) if known else "")
    body.extend(parts.missing(name.lower(), IN_DEMO) for name, v in totals if v is None)
    return parts.section(
        "words",
        "Do the words matter?",
        "The drawer or window stands half open, so the picture alone does not give the task away. Each "
        "instruction, in "
        "paraphrases unseen in training, has to move the joint its own way. Chance is 50 %.",
        *body,
        parts.foot(report, "words"),
    )


def _halfway_row(entry: Mapping[str, Any]) -> list[str]:
    episodes, right = as_number(entry.get("episodes")), as_number(entry.get("right"))
    share, interval = text.MISSING, text.MISSING
    if episodes and right is not None:
        low, high = wilson_interval(int(right), int(episodes))
        share, interval = (
            f"{right:.0f} ({100 * right / episodes:.0f} %)",
            f"{100 * low:.0f} to {100 * high:.0f} %",
        )
    names = [str(entry.get(k, text.MISSING)) for k in ("scene", "instruction", "model")]
    names[2] = text.MODELS.get(names[2], names[2])
    return [parts.cell(v) for v in (*names, text.whole(episodes), share, interval)]


def controls(report: Report, assets: Assets) -> str:
    """The equal-budget controls of distillation."""
    entries = [
        ("Distilled from the teacher, noise z as input", number(report, "success.student_fp32")),
        ("Demonstrations alone, no teacher", number(report, "success.demos_only")),
        ("Distilled without z", number(report, "success.without_z")),
    ]
    known = [
        (name, v, text.percent(v), "c-fp32" if i == 0 else "c-stage")
        for i, (name, v) in enumerate(entries)
        if v is not None
    ]
    absent = [name.lower() for name, v in entries if v is None]
    return parts.section(
        "controls",
        "Does distillation earn its place?",
        "Students of the same size, trained with the same budget; success share of each.",
        parts.bars(known) if known else "",
        parts.missing("; ".join(absent), "The controls belong to the committed evidence.") if absent else "",
        parts.foot(report, "controls"),
    )
