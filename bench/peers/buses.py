"""Vendor bus libraries beside our drivers: `python -m bench.bus` of one protocol, run as a window; and its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

JOINTS = 6
_PATIENCE_S = 240.0


def window(protocol: str, rounds: int, cycles: int) -> dict[str, Any]:
    """One run of the bus bench in a process of its own, as it binds itself to a core. `failed` says why none."""
    command = [sys.executable, "-m", "bench.bus", "--json", "--protocol", protocol, "--joints", str(JOINTS)]
    command += ["--rounds", str(rounds), "--cycles", str(cycles)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
        row = json.loads(done.stdout)["rows"][0]
    except subprocess.TimeoutExpired:
        return {"failed": f"no result within {_PATIENCE_S:g} s"}
    except (ValueError, KeyError, IndexError):
        words = done.stderr.strip().splitlines()
        return {"failed": f"exit {done.returncode}: {' '.join(words)[-300:] or 'silence'}"}
    kept = ("peer", "why_no_peer", "baud", "wire_ms", "hz", "wire_efficiency", "host_us_p50", "cpu_us", "wall_us",
            "peer_cpu_us", "peer_wall_us")  # fmt: skip
    return {"failed": "", **{key: row[key] for key in kept}, "ratios": row["unpaced"]["ratios"]}


def rows(protocol: str, windows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a protocol: its library, times ours; the interval is that of the median window. Pure."""
    good = [told for told in windows if not told["failed"]]
    row = {"kind": "bus", "subject": f"{protocol}, {JOINTS} joints", "protocol": protocol, "windows": len(good)}
    if not good:
        return [{**row, "peer": "-", "failed": windows[-1]["failed"] if windows else "not run"}]
    middle = sorted(good, key=lambda told: told["ratios"].get("wall", {}).get("median", 0.0))[len(good) // 2]
    library = middle["peer"] or f"none: {middle['why_no_peer']}"
    ratios = {
        f"times_ours_{name}": {key: round(ratio[key], 3) for key in ("median", "low", "high")}
        for name, ratio in middle["ratios"].items()
    }
    figures = {key: middle[key] for key in ("wall_us", "cpu_us", "peer_wall_us", "peer_cpu_us", "hz", "host_us_p50")}
    spread = [round(told["ratios"]["wall"]["median"], 3) for told in good if "wall" in told["ratios"]]
    worst = float(np.max(spread)) if spread else None
    told = {"peer": library, "failed": "", "window_times_wall": spread, "largest_times_wall": worst}
    return [{**row, **told, **figures, **ratios, "configured": "as its examples use it, see bench/bus/peers/"}]
