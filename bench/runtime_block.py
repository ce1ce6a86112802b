"""The measured half of docs/runtime.md: what is bounded and what was observed, from committed results. Pure.

Bounded is a statement about the next sample, with its confidence and number of samples; observed says what happened in
one run. Neither table takes a figure of the other kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.report.data import as_number, get, number, rows

NOT_YET = "not measured yet"
Json = Mapping[str, Any]
STEADY = {  # figure of steady.json -> title, unit
    "traced_growth_bytes": ("traced memory, net growth", " B"),
    "traced_peak_bytes": ("traced memory, peak above the start", " B"),
    "minor_faults": ("minor page faults", ""),
    "major_faults": ("major page faults", ""),
    "collections": ("garbage collections", ""),
}
SOAKED = {  # number of soak.json -> title
    "ticks": "servo steps in which the arm may move",
    "late_commands": "late commands",
    "expired_commands": "commands found expired, not written",
    "misses": "servo misses",
    "skipped_periods": "periods overslept, among the misses",
    "stolen_s": "stolen by the host, s",
}


_WORDS_BOUNDED = (
    "Each line with its confidence, were the samples independent, whatever their distribution; a p99.9 takes 4,603 "
    "samples or more. *By effective samples* allows for samples that resemble their neighbours."
)
_WORDS_BESIDE = "Wake after the deadline beside cyclictest: same core, alternating windows, us, median window."


def runtime_block(demo: Json, loop: Json, steady: Json, soak: Json, host: Callable[[Json], str]) -> str:
    """Sections "Bounded" and "Observed". An absent result is an empty mapping."""
    return "\n\n".join([*_bounded(demo, loop, soak, host), *_observed(demo, loop, steady, soak, host)])


def _bounded(demo: Json, loop: Json, soak: Json, host: Callable[[Json], str]) -> list[str]:
    return [
        "## Bounded",
        _WORDS_BOUNDED,
        _table(("", "bound", "samples", "confidence"), [*_claims(demo), *_late(soak), *_pooled(loop)]),
        f"Hosts. `check`: {host(demo)}. Soak: {host(soak)}. Loop: {host(loop)}.",
    ]


def _observed(demo: Json, loop: Json, steady: Json, soak: Json, host: Callable[[Json], str]) -> list[str]:
    steps = _whole(number(steady, "ticks"))
    return [
        "## Observed",
        "Percentiles and maxima of one run each. They bound nothing.",
        _table(("", "seen"), _seen(demo)),
        f"{_WORDS_BESIDE} {host(loop)}.",
        _beside(loop),
        "The same loop with one exchange a period over edgelink to the virtual arm, us:",
        _bus(loop),
        f"Soak, {_soak_words(soak)}. {host(soak)}.",
        _soak(soak),
        f"Memory of the servo process in the real loop with a bus, steps: {steps}. {host(steady)}.",
        _steady(steady),
    ]


# --- bounded ---


def _claims(demo: Json) -> list[Sequence[str]]:
    """The bounded claims of `edgevla check` in the demo."""
    found = [claim for claim in rows(demo, "figures.claims") if claim.get("kind") == "bounded"]
    if not found:
        return [("claims of `edgevla check`", NOT_YET, NOT_YET, NOT_YET)]
    return [(_claim_name(claim), str(claim.get("text", NOT_YET)), *_certainty(claim)) for claim in found]


def _claim_name(claim: Json) -> str:
    return f"`check`, {claim.get('name', '?')}: {'kept' if claim.get('kept') else '**broken**'}"


def _certainty(claim: Json) -> tuple[str, str]:
    return _whole(as_number(claim.get("samples"))), _percent(as_number(claim.get("confidence")))


def _late(soak: Json) -> list[Sequence[str]]:
    confidence = _percent(number(soak, "late_share.confidence"))
    names = (
        ("soak, late commands of all, were they independent", "bound_if_independent", "ticks"),
        ("soak, late commands of all, by effective samples", "bound_by_effective_samples", "effective_samples"),
    )
    return [
        (title, _share(number(soak, f"late_share.{key}")), _whole(number(soak, samples)), confidence)
        for title, key, samples in names
    ]


def _pooled(loop: Json) -> list[Sequence[str]]:
    found: list[Sequence[str]] = []
    for row in rows(loop, "rows"):
        bound, count = number(row, "pooled.ours.p999_bound_us"), number(row, "pooled.ours.count")
        shown = "too few samples" if bound is None else f"p99.9 <= {bound:,.0f} us"
        title = f"wake after deadline, {_whole(number(row, 'rate_hz'))} Hz, {row.get('load', '?')}"
        found.append((title, shown, _whole(count), "-" if bound is None else "99 %"))
    return found or [("wake after deadline", NOT_YET, NOT_YET, NOT_YET)]


# --- observed ---


def _seen(demo: Json) -> list[Sequence[str]]:
    """The observed claims of `edgevla check` in the demo."""
    found = [claim for claim in rows(demo, "figures.claims") if claim.get("kind") == "observed"]
    if not found:
        return [("`edgevla check`", NOT_YET)]
    return [(f"`check`, {claim.get('name', '?')}", str(claim.get("text", NOT_YET))) for claim in found]


def _beside(loop: Json) -> str:
    head = (
        "",
        "ours p50 / p99 / p99.9",
        "cyclictest",
        "p99 ratio",
        "p99.9 ratio",
        "windows (marked)",
        "largest of both",
        "",
    )
    body: list[Sequence[str]] = []
    for row in rows(loop, "rows"):
        ours, theirs = (_three(row, name) for name in ("ours", "cyclictest"))
        ratios = [_ratio(row, part) for part in ("p99", "p999")]
        windows = f"{_whole(number(row, 'windows'))} ({_whole(number(row, 'windows_with_stolen_time'))})"
        largest = f"{_whole(number(row, 'ours_max_us'))} / {_whole(number(row, 'cyclictest_max_us'))}"
        title = f"{_whole(number(row, 'rate_hz'))} Hz, {row.get('load', '?')}"
        body.append((title, ours, theirs, *ratios, windows, largest, "kept" if row.get("kept") else "**missed**"))
    return _table(head, body or [("every rate and load", *[NOT_YET] * 6, "")])


def _bus(loop: Json) -> str:
    head = ("", "first byte p50 / p99 / p99.9", "round trip", "no reply in half a period", "wire's share")
    body: list[Sequence[str]] = []
    for row in rows(loop, "bus"):
        first, trip = (_three(get(row, name) or {}) for name in ("first_byte", "round_trip"))
        missing = _whole(number(row, "no_reply_in_half_a_period"))
        share = _percent(number(row, "wire_efficiency"))
        body.append((f"{_whole(number(row, 'rate_hz'))} Hz", first, trip, missing, share))
    return _table(head, body or [("every rate", *[NOT_YET] * 4)])


def _soak(soak: Json) -> str:
    body = [(title, _plain(number(soak, key))) for key, title in SOAKED.items()]
    for key, title in (("wake", "wake"), ("first_byte", "first byte")):
        body.append((f"{title} after deadline, p50 / p99 / p99.9, us", _three(get(soak, key) or {})))
        body.append((f"{title} after deadline, largest, us", _whole(number(soak, f"{key}.max_us"))))
    return _table(("", "seen"), body)


def _soak_words(soak: Json) -> str:
    rate, load = number(soak, "rate_hz"), soak.get("load")
    if rate is None:
        return NOT_YET
    effort = ", `--best-effort`" if get(soak, "key.best_effort") else ""
    return f"{rate:g} Hz, load: {load}{effort}, {len(rows(soak, 'blocks'))} blocks"


def _steady(steady: Json) -> str:
    body = []
    for key, (title, unit) in STEADY.items():
        value, limit = number(steady, key), number(steady, f"limits.{key}")
        seen, asked = (NOT_YET if n is None else f"{n:,.0f}{unit}" for n in (value, limit))
        verdict = "" if value is None or limit is None else "kept" if value <= limit else "**missed**"
        body.append((title, asked, seen, verdict))
    return _table(("", "at most", "seen", ""), body)


# --- small words ---


def _three(found: Json, contender: str = "") -> str:
    head = f"{contender}_" if contender else ""
    values = [number(found, f"{head}{part}_us") for part in ("p50", "p99", "p999")]
    return NOT_YET if None in values else " / ".join(_whole(value) for value in values)


def _ratio(row: Json, part: str) -> str:
    middle, low, high = (number(row, f"ratio_{part}.{key}") for key in ("median_window", "low", "high"))
    if middle is None:
        return NOT_YET
    return f"{middle:.2f} ({low:.2f} to {high:.2f})" if low is not None and high is not None else f"{middle:.2f}"


def _whole(value: float | None) -> str:
    return NOT_YET if value is None else f"{value:,.0f}"


def _plain(value: float | None) -> str:
    return NOT_YET if value is None else f"{value:,g}" if value % 1 else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return NOT_YET if value is None else f"{100 * value:.3g} %"


def _share(value: float | None) -> str:
    return NOT_YET if value is None else f"<= {value:.2g}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
