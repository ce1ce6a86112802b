"""One block of a soak from its flight record, and the evidence file from all blocks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.effective import effective_samples, share_bound
from bench.loop.histogram import merged, of_ns, packed, tail, unpacked
from edgevla.control.result import COMMANDING
from edgevla.errors import BadInput, Usage, explain
from edgevla.telemetry.stats import samples_needed

SCHEMA = "edgevla.soak/1"
TICKS = samples_needed(0.99999, 0.99)  # 460,515: p99.999 at 99 % when none is late
SUMS = ("ticks", "late_commands", "expired_commands", "misses", "skipped_periods")


def figures(rows: NDArray[Any], servo_period_s: float, ttl_s: float) -> dict[str, Any]:
    """Of the servo steps in which the arm may move (rows: telemetry.rows.tick_dtype).

    late: first byte after the command's expiry; expired: found expired before the write and never written;
    missed: first byte more than Ts / 2 after its deadline, never written, or its period overslept.
    """
    rows = rows[np.isin(rows["phase"], COMMANDING)]
    late_ns = rows["write_ns"] - rows["deadline_ns"]
    written, expired = rows["write_ns"] > 0, rows["late"] != 0
    skipped = int(rows["skipped"].sum())
    sent_ns = late_ns[written]
    return {
        "ticks": len(rows),
        "late_commands": int((sent_ns > ttl_s * 1e9).sum()),
        "expired_commands": int(expired.sum()),
        "misses": int((sent_ns > servo_period_s * 0.5e9).sum()) + int(expired.sum()) + skipped,
        "skipped_periods": skipped,
        "effective_samples": round(effective_samples(sent_ns), 1),
        "histogram_us": packed(of_ns(sent_ns)),
        "wake_histogram_us": packed(of_ns((rows["wake_ns"] - rows["deadline_ns"])[written])),
    }


def begun(key: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """An evidence file without blocks. `key`: what every block has in common."""
    return _summed({"schema": SCHEMA, "command": "edgevla bench soak", "key": dict(key), "host": dict(host)}, [])


def continued(found: Mapping[str, Any], key: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The file as it can be added to. Raises BadInput, or Usage where its blocks were run otherwise."""
    if found.get("schema") != SCHEMA or not isinstance(found.get("blocks"), list):
        raise BadInput(explain(f"{where} is no evidence of a soak", SCHEMA, found.get("schema"), "pass another --out"))
    old = found.get("key", {})
    differing = [f"{name}: {old.get(name)!r}, now {key[name]!r}" for name in key if old.get(name) != key[name]]
    if differing:
        todo = "continue with the same options, or pass another --out"
        raise Usage(explain(f"{where} holds blocks of another soak", "the same key", "; ".join(differing), todo))
    return dict(found)


def added(found: Mapping[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence with one block more."""
    return _summed(found, [*found["blocks"], dict(block)])


def _summed(found: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums, bounds and the raw histograms of all blocks."""
    sums: dict[str, Any] = {name: sum(block[name] for block in blocks) for name in SUMS}
    effective = sum(block["effective_samples"] for block in blocks)
    key = found["key"]
    head = {name: found[name] for name in ("schema", "command", "key", "host")}
    return {
        **head,
        "rate_hz": key["rate_hz"],
        "load": key["load"],
        **sums,
        "effective_samples": round(effective, 1),
        "stolen_s": round(sum(block["stolen_s"] for block in blocks), 3),
        "late_share": {
            "confidence": 0.99,
            "bound_if_independent": share_bound(sums["late_commands"], sums["ticks"]),
            "bound_by_effective_samples": share_bound(sums["late_commands"], effective),
        },
        **_histograms(blocks),
        "blocks": list(blocks),
    }


def _histograms(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merge = {name: merged(unpacked(block[name]) for block in blocks) for name in ("histogram_us", "wake_histogram_us")}
    return {
        "first_byte": tail(merge["histogram_us"]).as_dict() if merge["histogram_us"] else None,
        "wake": tail(merge["wake_histogram_us"]).as_dict() if merge["wake_histogram_us"] else None,
        **{name: packed(histogram) for name, histogram in merge.items()},
    }


def time_left_s(found: Mapping[str, Any], ticks: int) -> float:
    """Until `ticks`, at the rate of the blocks themselves, their starts included."""
    left = max(0, ticks - found["ticks"])
    spent_s = sum(block["wall_s"] for block in found["blocks"])
    return left * (spent_s / found["ticks"] if found["ticks"] else 1.0 / found["rate_hz"])
