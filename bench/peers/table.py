"""The one table of the peers, from their rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
COLUMNS = ("what", "peer", "threads", "p50 / p99", "times ours (95 %)", "error, relative rms", "MB", "")
SCHEMA = "edgevla.peers/1"
OURS, OURS_LOOP = "edgevla int8", "edgevla loop"
_WRONG = 0.05  # relative rms from which a row says that it is fast by being off


def table(rows: Sequence[Json]) -> list[tuple[str, ...]]:
    """COLUMNS of each row."""
    return [_MAKERS[row["kind"]](row) for row in rows]


def _model(row: Json) -> tuple[str, ...]:
    what = f"{row['subject']} ({row['parameters'] / 1e6:.1f} M)"
    head = (what, str(row["peer"]), str(row["threads"]))
    if row["failed"]:
        return (*head, "-", "-", "-", "-", _refused(row))
    error = row["error"]
    shown = f"{error['relative_rms']:.2g}" if error["finite"] else "NOT FINITE"
    off = not error["finite"] or error["relative_rms"] > _WRONG
    notes = [f"computes in {row['precision']}" if row["precision"] else "", "far from FP32" if off else ""]
    note = ", ".join(n for n in notes if n)
    times = f"{row['p50_ms']:.2f} / {row['p99_ms']:.2f} ms"
    return (*head, times, interval(row.get("times_ours"), row["peer"] == OURS), shown, f"{row['rss_mb']:.0f}", note)


def _loop(row: Json) -> tuple[str, ...]:
    head = (str(row["subject"]), str(row["peer"]), "")
    if row["failed"]:
        return (*head, "-", "-", "-", "-", _refused(row))
    shown = row.get("deviation") or row["wake"]
    kind = "tick off by" if "deviation" in row else "wakes late by"
    share = f", {row['cpu_share']:.1%} of a core" if "cpu_share" in row else ""
    rate = f", {row['rate_hz']:.3f} Hz, {row['missed']} missed" if "rate_hz" in row else ""
    times = f"{shown['p50_us']:.0f} / {shown['p99_us']:.0f} us"
    return (
        *head,
        times,
        interval(row.get("times_ours"), row["peer"] == OURS_LOOP),
        "",
        "",
        f"{kind}, max {shown['max_us']:.0f} us{rate}{share}",
    )


def _bus(row: Json) -> tuple[str, ...]:
    head = (str(row["subject"]), str(row["peer"]), "")
    if row["failed"]:
        return (*head, "-", "-", "-", "-", _refused(row))
    if row["peer_wall_us"] is None:
        return (*head, f"ours {row['wall_us']:.0f} us", "-", "", "", "no library to stand beside")
    cpu = interval(row.get("times_ours_cpu"))
    times = f"{row['peer_wall_us']:.0f} us, ours {row['wall_us']:.0f}"
    return (*head, times, interval(row.get("times_ours_wall")), "", "", f"an exchange, unpaced; CPU {cpu}")


def _refused(row: Json) -> str:
    """In one line, as a row of a table is one."""
    return f"could not run: {' '.join(str(row['failed']).split())[:160]}"


_MAKERS = {"model": _model, "loop": _loop, "bus": _bus}


def interval(ratio: Json | None, ours: bool = False) -> str:
    if ratio is None:
        return "1" if ours else "-"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
