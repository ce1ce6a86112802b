"""A search as tables with their reasons, and as evidence/search.json."""

from __future__ import annotations

import json
from typing import Any

from edgevla.telemetry.host import describe_host
from export.search.front import not_dominated
from export.search.layers import Layer
from export.search.search import Choice

SCHEMA = "edgevla.search/1"


def evidence(choice: Choice) -> dict[str, Any]:
    """Everything as JSON values, raw latencies too; what is not finite becomes null."""
    found = _values(choice)
    plain: dict[str, Any] = json.loads(json.dumps(found), parse_constant=lambda _: None)
    return plain


def _values(choice: Choice) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "choice": choice.decision.name,
        "artifact": choice.artifact,
        "keep": sorted(list(key) for key in choice.candidate.keep),
        "sentence": choice.sentence,
        "others": choice.others,
        "notes": list(choice.notes),
        "budget": choice.budget.as_dict(),
        "rows": [row.as_dict() for row in choice.rows],
        "front": front(choice),
        "ratios": ratios(choice),
        "layers": layer_rows(choice),
        "judged": {name: {"share": share, **error.as_dict()} for name, (share, error) in choice.judged.items()},
        "run": {"rounds": choice.run.rounds, "seed": choice.run.seed, "wall_s": choice.run.wall_s,
                "stolen_s": choice.run.stolen_s, "threads": 1},
        "latencies_ns": choice.run.as_figures(),
        "host": describe_host(),
    }  # fmt: skip


def front(choice: Choice) -> list[str]:
    """Rows of our engine that no other beats in latency without more error."""
    ours = {row.name: (row.p50_ms, row.share) for row in choice.rows if row.engine == "onnxruntime"}
    return not_dominated(ours)


def ratios(choice: Choice) -> list[dict[str, Any]]:
    """Every other row over the chosen one: median of the ratios by round, and its interval."""
    chosen = choice.decision.name
    return [choice.run.ratio(row.name, chosen).as_dict() for row in choice.rows if row.name != chosen]


def layer_rows(choice: Choice) -> list[dict[str, Any]]:
    """Per layer: what it is, what it costs, what became of it and why; the dearest first."""
    weighed = {layer.key: item for item in choice.weighed for layer in item.group}
    rows = []
    for layer in choice.layers:
        item, error = weighed[layer.key], choice.alone[layer.key]
        size = len(item.group)
        rows.append(
            {
                "stage": layer.stage, "node": layer.node, "name": layer.name, "operator": layer.operator,
                "weights": layer.weights, "multiply_adds": layer.multiply_adds, "grouped": size,
                "saved_us": item.saved_us, "share": item.alone, "relief": item.relief,
                "error": error.as_dict(), "form": form(choice, layer), "reason": reason(choice, layer),
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: -row["share"])


def form(choice: Choice, layer: Layer) -> str:
    """What became of a layer: int8, or the float kind."""
    if choice.artifact in ("fp32", "fp16"):
        return choice.artifact
    return "fp32" if layer.key in choice.candidate.keep else "int8"


def reason(choice: Choice, layer: Layer) -> str:
    """Why, in words."""
    item = next(w for w in choice.weighed if layer.key in w.keys)
    price = f"{100 * item.alone:.0f} % of the error budget for {item.saved_us:.0f} us"
    if choice.artifact in ("fp32", "fp16"):
        return f"float, as no int8 candidate won; int8 here would take {price}"
    if choice.artifact != "dynamic-s8":
        return f"{choice.artifact} won as a whole"
    if layer.key in choice.candidate.keep:
        return f"float, as int8 takes {price}"
    return f"int8, as it takes {price}"


COLUMNS = ("candidate", "engine", "p50 ms", "p99 ms", "time / its time", "MB", "of budget", "worst p99", "flips", "")


def table(choice: Choice) -> list[tuple[object, ...]]:
    """Rows of the candidates for `print_table`, with COLUMNS."""
    chosen, lead = choice.decision.name, set(front(choice))
    lines: list[tuple[object, ...]] = []
    for row in choice.rows:
        ratio = None if row.name == chosen else choice.run.ratio(row.name, chosen)
        times = "ships" if ratio is None else f"{ratio.median:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
        worst = _worst(choice, row.error.channels)
        place = "front" if row.name in lead else row.note
        lines.append(
            (row.name, row.engine, f"{row.p50_ms:.3f}", f"{row.p99_ms:.3f}", times, f"{row.bytes / 1e6:.1f}",
             f"{row.share:.2f}{'' if row.inside else ' OUTSIDE'}", worst, f"{100 * row.error.flips:.1f} %", place)
        )  # fmt: skip
    return lines


def _worst(choice: Choice, channels: Any) -> str:
    """p99 of the channel that takes most of its limit."""
    limits = choice.budget.limits
    judged = [row for row in channels if row.name in limits]
    if not judged:
        return "-"
    worst = max(judged, key=lambda row: row.p99 / limits[row.name])
    return f"{worst.name} {worst.p99:.2g} {worst.unit}"


LAYER_COLUMNS = ("stage", "layer", "weights", "multiply-adds", "saves us", "of budget", "form", "reason")


def layer_table(choice: Choice) -> list[tuple[object, ...]]:
    """Rows of the layers for `print_table`, with LAYER_COLUMNS."""
    return [
        (row["stage"], row["name"], f"{row['weights']:,}", f"{row['multiply_adds']:,}", f"{row['saved_us']:.1f}",
         f"{row['share']:.3f}", row["form"], row["reason"])
        for row in layer_rows(choice)
    ]  # fmt: skip
