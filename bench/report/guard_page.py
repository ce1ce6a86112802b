"""The report of a guarded run: one HTML file without a request to anywhere, and the same tables as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from bench.files import write_text
from bench.report import guard_base, parts, text
from bench.report import guard_sections as sections
from bench.report.guard_figures import STYLE
from bench.report.guard_part import Part, as_html, as_markdown, us
from bench.report.shell import whole_page
from edgevla.errors import BadInput, explain
from edgevla.telemetry.host import host_line

Document = Mapping[str, Any]
GUARD, PAIRS = "edgevla.guard/1", "edgevla.pairs/1"
_FOOT = "Made by edgevla bench guard. Its JSON holds the same numbers, and each stage's histogram."


@dataclass(frozen=True)
class Source:
    """A document and what stands beside it. `bases`: of the guard or of `bench pairs`, as their schema says."""

    document: Document
    bases: Sequence[Document] = ()
    tegrastats: Document | None = None  # of a log beside the run, for a machine whose sensors the run did not read


@dataclass(frozen=True)
class Verdict:
    """`kind`: good | bad | open, as the colours of the page."""

    headline: str
    kind: str
    why: str
    reasons: Sequence[str] = ()


def read(path: Path, *schemas: str) -> dict[str, Any]:
    """A result of one of those schemas. Raises BadInput."""
    expected, todo = " or ".join(schemas), "pass what `edgevla bench guard --out FILE` wrote"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(explain(f"cannot read {path}", expected, error, todo)) from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema not in schemas:
        raise BadInput(explain(f"{path} is something else", expected, schema or "no schema", todo))
    return dict(found)


def write(source: Source, html: Path | None, markdown: Path | None) -> list[Path]:
    """Write what is asked for, each whole or not at all; the paths. Raises BadInput."""
    made: list[tuple[Path | None, Callable[[Source], str]]] = [(html, page), (markdown, as_text)]
    ready = [(path, _made(render, source)) for path, render in made if path is not None]
    for path, words in ready:
        write_text(path, words)
    return [path for path, _ in ready]


def _made(render: Callable[[Source], str], source: Source) -> str:
    try:
        return render(source)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        got, todo = f"{type(error).__name__}: {error}", "pass what this version of `edgevla bench guard` wrote"
        raise BadInput(explain("a document that cannot be shown", GUARD, got, todo)) from None


def page(source: Source) -> str:
    """The page as text."""
    document, found = source.document, parts_of(source)
    said = verdict(document)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in said.reasons)
    box = f"<b>{escape(said.headline)}</b><p>{escape(said.why)}</p>{f'<ul>{reasons}</ul>' if reasons else ''}"
    synthetic = '<div class="banner">Synthetic test data. Nothing on this page was measured.</div>'
    return whole_page(
        _title(document),
        escape(_run(document)),
        document["host"],
        [(part.anchor, part.title) for part in found],
        f"{synthetic if document.get('synthetic') else ''}"
        f'<div class="verdict {said.kind}">{box}</div>{_tiles(document)}{"".join(map(as_html, found))}',
        _FOOT,
        STYLE,
    )


def as_text(source: Source) -> str:
    """The Markdown."""
    document, said = source.document, verdict(source.document)
    reasons = ["\n".join(f"- {reason}" for reason in said.reasons)] if said.reasons else []
    head = [f"# {_title(document)}", f"**{said.headline}** {said.why}", *reasons, _run(document)]
    synthetic = ["Synthetic test data. Nothing here was measured."] if document.get("synthetic") else []
    lines = [*head, *synthetic, f"Measured on {host_line(document['host'])}", *map(as_markdown, parts_of(source))]
    return "\n\n".join(lines) + "\n"


def parts_of(source: Source) -> list[Part]:
    """Everything below the verdict, in order."""
    document = source.document
    schedule = document["schedule"]
    energy = document["energy"] or source.tegrastats
    origin = "INA3221 sensors, last segment" if document["energy"] else "from a log of tegrastats beside the run"
    beside = [_beside(document, base) for base in source.bases]
    return [
        sections.claims(document),
        sections.stages(document),
        *beside,
        sections.ticks(document),
        sections.ladder(document),
        sections.drift(document),
        sections.tail(document),
        sections.memory(document),
        sections.energy(energy, schedule["r"] * schedule["period_s"], origin),
        Part("limits", "What this does not say", "", notes=_LIMITS),
    ]


_LIMITS = (
    "A virtual arm over a pty or a virtual bus, pictures of a file: real bytes, a real clock, no motor, no wire.",
    "A maximum was seen in this run; no number of samples bounds it.",
    "A bound holds for conditions like those of this run: this load, this temperature, this host.",
    "A figure of this host is none of a Jetson.",
)


def _beside(document: Document, base: Document) -> Part:
    return guard_base.paired(base) if base["schema"] == PAIRS else guard_base.beside(document, base)


def verdict(document: Document) -> Verdict:
    """What the run allows to be said. What is broken in an unsound run counts only beyond blame."""
    broken = [claim["name"] for claim in document["claims"] if claim["kept"] is False]
    judged = [claim for claim in document["claims"] if claim["kept"] is not None]
    reasons, beyond = document["unsound_because"], document["broken_beyond_blame"]
    if document["sound"] and broken:
        return Verdict(
            f"Broken: {', '.join(broken)}", "bad", f"The run is sound; {len(broken)} of {len(judged)} claims broke."
        )
    if document["sound"]:
        return Verdict("Kept", "good", f"The run is sound, and all {len(judged)} claims that are judged hold.")
    if beyond:
        why = f"Over their limits by the median already: {', '.join(beyond)}. Otherwise the run is not sound, because:"
        return Verdict("Not sound, and over its limits", "bad", why, reasons)
    meanwhile = f" Broken meanwhile, perhaps for the same reasons: {', '.join(broken)}." if broken else ""
    return Verdict(
        "Not measured soundly", "open", f"The run says nothing about its limits.{meanwhile} Because:", reasons
    )


def _title(document: Document) -> str:
    return f"Guard: {document['bundle']['name']} on {document['target']} with {document['arm']}"


def _run(document: Document) -> str:
    schedule, wall_s = document["schedule"], sum(segment["wall_s"] for segment in document["segments"])
    inferences = document["stages"]["preprocess"]["count"] if "preprocess" in document["stages"] else 0
    every = text.ms(1e3 * schedule["r"] * schedule["period_s"])
    return (
        f"{inferences:,} inferences, one every {every}, in {text.seconds(wall_s)}; load: {document['load']}; bundle "
        f"{document['bundle']['sha256'][:12]}. Open loop: what was due counts from its due time."
    )


def _tiles(document: Document) -> str:
    found, claims = document["stages"], document["claims"]
    made = [
        parts.tile(*_count(claims)),
        *(_stage_tile(found, name, words) for name, words in _SHOWN.items()),
    ]
    return f'<div class="tiles">{"".join(made)}</div>'


_SHOWN = {
    "policy": "policy: re-plan to chunk, p99",
    "bus": "bus: deadline to written, p99",
    "sensor-to-bus": "sensor to bus, p99",
}


def _count(claims: Sequence[Document]) -> tuple[str, str, str]:
    limited = [claim for claim in claims if claim["kept"] is not None or claim["limit_us"] is not None]
    states = [claim["kept"] for claim in limited]
    note = f"{states.count(False)} broken, {states.count(None)} with too few samples"
    return f"{states.count(True)} of {len(limited)}", "claims kept", note


def _stage_tile(stages: Document, name: str, words: str) -> str:
    stage = stages.get(name)
    if stage is None:
        return parts.tile(text.MISSING, words, "nothing measured")
    note = f"p50 {us(stage['p50_us'])}, max {us(stage['max_us'])}, n = {stage['count']:,}"
    return parts.tile(us(stage["p99_us"]), words, note)
