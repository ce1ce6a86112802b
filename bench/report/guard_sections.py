"""What the guard's report says of one document, part by part. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report import guard_figures as figures
from bench.report import parts, text
from bench.report.guard_part import NONE, Part, Table, us, verdict_word, whole

Document = Mapping[str, Any]
_MISSES = {
    "servo": "servo steps missed",
    "released": "chunks released",
    "release_misses": "chunks that missed their release",
    "passed_over": "re-plan ticks passed over",
}
_MOST = 24  # events of the ladder in the table


def claims(document: Document) -> Part:
    """One table for each kind: they are never mixed."""
    found = document["claims"]
    of = {kind: [claim for claim in found if claim["kind"] == kind] for kind in ("proved", "bounded", "observed")}
    seen = [claim for claim in of["observed"] if claim["kept"] is not None]
    times = ("value", "limit", "slack")
    lead = (
        "Proved: arithmetic of the timing contract. Bounded: an order statistic at a confidence, with the effective "
        "number of samples. Observed: what was seen, which bounds nothing. Slack is limit minus value."
    )
    tables = (
        Table(
            ("claim", "", *times, "inequality"),
            [(c["name"], _verdict(c), *_times(c), c["text"]) for c in of["proved"]],
            (1, 5),
            "Proved",
        ),
        Table(
            ("claim", "", *times, "n", "effective n", "confidence"),
            [(c["name"], _verdict(c), *_times(c), *_counts(c), f"{100 * c['confidence']:g} %") for c in of["bounded"]],
            (1,),
            "Bounded at a confidence",
        ),
        Table(
            ("claim", "", "value", "n", ""),
            [(c["name"], _verdict(c), us(c["value_us"]), whole(c["samples"]), c["text"]) for c in seen],
            (1, 4),
            "Observed",
        ),
    )
    notes = ["Observed as well, and not judged: the maximum of each stage, in the table of stages."]
    return Part("claims", "Claims", lead, [table for table in tables if table.rows], notes=notes)


def _times(claim: Document) -> tuple[str, str, str]:
    return us(claim["value_us"]), us(claim["limit_us"]), us(claim["slack_us"])


def _counts(claim: Document) -> tuple[str, str]:
    return whole(claim["samples"]), whole(claim["effective_samples"])


def _verdict(claim: Document) -> str:
    return verdict_word(claim["kept"], claim["limit_us"])


def limits_us(document: Document) -> dict[str, float]:
    """By stage, of its bounded claims: the tightest."""
    found: dict[str, float] = {}
    for claim in document["claims"]:
        if claim["kind"] == "bounded" and claim["limit_us"] is not None:
            found[claim["stage"]] = min(claim["limit_us"], found.get(claim["stage"], claim["limit_us"]))
    return found


def stages(document: Document) -> Part:
    """Histograms, and the quantiles that stand in them."""
    lead = (
        "Each stage over its own HDR histogram, logarithmic; solid mark p50, dashed p99. Stages overlap: bus holds "
        "wake, policy holds its graphs. release is the slack that was left before a chunk's tick: more is better. "
        "What is shorter than the axis lies at its left end. Autocorrelation time in samples."
    )
    head = ("stage", "p50", "p99", "p99.9", "max", "n", "effective n", "autocorrelation time")
    rows = [
        (
            name, *(us(stage[f"{key}_us"]) for key in ("p50", "p99", "p999", "max")),
            whole(stage["count"]), whole(stage["effective_samples"]), text.three(stage["autocorrelation_ticks"]),
        )
        for name, stage in document["stages"].items()
    ]  # fmt: skip
    drawn = figures.histograms(document["stages"], limits_us(document))
    return Part("stages", "Stages", lead, [Table(head, rows)], drawn)


def ticks(document: Document) -> Part:
    """The raster, and how often something was missed."""
    found, segments = document["ticks"], document["segments"]
    lead = (
        f"How late each of the last {len(found['wake_us']):,} servo steps woke after its deadline. A triangle is a "
        "chunk that was not there at its release; a red tick below the axis is a servo step that was overslept, not "
        "written, or written after half its period."
    )
    misses = [(name, sum(segment["misses"].get(name) or 0 for segment in segments)) for name in segments[0]["misses"]]
    rows = [(_MISSES.get(name, name), whole(count)) for name, count in misses]
    table = Table(("over the whole run, all segments, warm-up included", "count"), rows)
    drawn = figures.raster(found) if found["wake_us"] else ""
    return Part("ticks", "Ticks", lead, [table], drawn)


def ladder(document: Document) -> Part:
    """Every change of phase."""
    events: Sequence[Document] = document["ladder"]
    lead = "Phases of the stop ladder since arming. A run that keeps its deadlines stays in track until it is stopped."
    if not events:
        return Part("ladder", "Ladder", lead, missing=("events", "The arm was never armed."))
    rows = [
        (str(event["segment"] + 1), f"{event['at_s']:.3f} s", whole(event["tick"]), event["phase"])
        for event in events[:_MOST]
    ]
    stops = [segment["stop"]["reason"] for segment in document["segments"]]
    notes = [f"Segment {at} ended: {reason}" for at, reason in enumerate(stops, start=1) if reason]
    if len(events) > _MOST:
        notes.append(f"{len(events) - _MOST} more events are in the JSON.")
    table = Table(("segment", "at", "tick", "phase"), rows, (3,))
    return Part("ladder", "Ladder", lead, [table], figures.ladder(events), notes)


def drift(document: Document) -> Part:
    """Blocks of each stage."""
    lead = (
        "Each stage in nine blocks of equal length; Kruskal and Wallis ask whether they are of one distribution. "
        "Drift alone is said, not judged. It makes the run unsound where the worst block alone breaks a limit that "
        "holds overall."
    )
    rows = [
        (
            name, "drifts" if stage["drift"]["significant"] else NONE,
            NONE if stage["drift"]["p_value"] is None else f"{stage['drift']['p_value']:.2g}",
            text.percent(stage["drift"]["spread"]),
        )
        for name, stage in document["stages"].items()
    ]  # fmt: skip
    table = Table(("stage", "", "p", "medians of blocks apart"), rows, (1,))
    return Part("drift", "Drift", lead, [table], figures.blocks(document["stages"]))


def tail(document: Document) -> Part:
    """Peaks over threshold."""
    lead = (
        "Estimate, not a bound, and never judged: a generalized Pareto distribution fitted to the largest twentieth "
        "of a stage's samples. A small p says that it does not fit, and then the estimate says nothing."
    )
    found = {name: stage["tail"] for name, stage in document["stages"].items() if stage["tail"]}
    if not found:
        gone = ("a stage with 1,000 samples or more", "Fewer have no tail to fit; ask for more --samples.")
        return Part("tail", "Tail (estimate)", lead, missing=gone)
    head = (
        "stage",
        "p99.99, estimate",
        "threshold",
        "exceedances",
        "shape",
        "scale",
        "Anderson-Darling",
        "p of the fit",
    )
    rows = [
        (
            name, f"{us(fit['p9999_us_estimate'])} (estimate)", us(fit["threshold_us"]), whole(fit["exceedances"]),
            _signed(fit["shape"]), us(fit["scale_us"]), text.small(fit["fit"]["statistic"]),
            text.small(fit["fit"]["p_value"]),
        )
        for name, fit in found.items()
    ]  # fmt: skip
    left_out = [name for name in document["stages"] if name not in found]
    notes = [f"Too few samples for an estimate: {', '.join(left_out)}."] if left_out else []
    return Part("tail", "Tail (estimate)", lead, [Table(head, rows)], notes=notes)


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def memory(document: Document) -> Part:
    """Of the policy process."""
    found = document["memory"]
    resident, most = (found[f"policy_{name}_mb"] for name in ("resident", "limit"))
    bars = parts.bars(
        [
            ("policy, resident", resident, f"{resident:,.0f} MB", "c-int8"),
            ("limit of the target", most, f"{most:,.0f} MB", "c-stage"),
        ]
    )
    lead = "Resident size of the policy process at its end, in the last segment."
    table = Table(
        ("process", "resident", "limit of the target"), [("policy", f"{resident:,.1f} MB", f"{most:,.0f} MB")]
    )
    return Part("memory", "Memory", lead, [table], bars)


def energy(found: Document | None, replan_s: float, origin: str) -> Part:
    """Rails of an INA3221, or of a log of tegrastats; `origin` says which."""
    if not found:
        how = "This machine shows no INA3221 sensor; beside a run on a Jetson, pass a log: --tegrastats FILE."
        return Part("energy", "Energy", "What the rails drew.", missing=("power of any rail", how))
    rails = found["mean_w"]
    rows = [(rail, f"{watt:.2f} W", f"{watt * replan_s:.3f} J") for rail, watt in rails.items()]
    bars = parts.bars([(rail, watt, f"{watt:.2f} W", "c-fp32") for rail, watt in rails.items()])
    lead = f"Mean of {found['samples']:,} looks; {origin}. A rail may hold others, so they do not add up."
    hot = found.get("max_celsius") or {}
    tables = [Table(("rail", "mean power", f"energy a re-plan interval of {text.ms(1e3 * replan_s)}"), rows)]
    if hot:
        tables.append(Table(("zone", "hottest"), [(zone, f"{value:.1f} °C") for zone, value in hot.items()]))
    return Part("energy", "Energy", lead, tables, bars)
