"""What a run was: pure summaries of the rows its processes wrote, and the record on disk."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.exchange import Status
from edgevla.errors import Usage, explain
from edgevla.telemetry.stats import Summary, summarise


@dataclass(frozen=True)
class RunResult:
    """One finished run. `figures` is JSON; the arrays are the flight record."""

    stop_reason: str
    exit_code: int
    success: bool | None  # None: nothing in the loop can tell (a real arm)
    figures: dict[str, Any]
    ticks: NDArray[Any]  # edgevla.telemetry.rows.tick_dtype
    inferences: NDArray[Any]  # edgevla.telemetry.rows.inference_dtype
    frames: NDArray[np.uint8]  # (f, h, w, 3), empty unless they were kept

    def as_dict(self) -> dict[str, Any]:
        return {
            "stop_reason": self.stop_reason,
            "exit_code": self.exit_code,
            "success": self.success,
            **self.figures,
        }


def loop_figures(rows: NDArray[Any], servo_period_s: float, link_late: int) -> dict[str, Any]:
    """Statistics of the servo steps. A miss: first byte more than Ts / 2 after its deadline, or never."""
    written = rows["write_ns"] > 0
    late_ns = rows["write_ns"] - rows["deadline_ns"]
    skipped = int(rows["skipped"].sum())
    missed = int((written & (late_ns > servo_period_s * 0.5e9)).sum()) + int((~written).sum()) + skipped
    figures: dict[str, Any] = {
        "ticks": len(np.unique(rows["tick"])),
        "servo_steps": len(rows),
        "late_commands": link_late,
        "misses": missed,
        "skipped_periods": skipped,
        "limited_steps": int((rows["limited"] != 0).sum()),
    }
    figures |= _figures("wake", rows["wake_ns"] - rows["deadline_ns"], 1e3, "us")
    return figures | _figures("write", late_ns[written], 1e3, "us")


def inference_figures(rows: NDArray[Any]) -> dict[str, Any]:
    """Statistics of the inferences: engine time, and observation sampled -> chunk handed over."""
    names = Counter(Status(int(code)).name.lower() for code in rows["status"])
    sound = rows[rows["status"] == Status.OK]
    figures: dict[str, Any] = {"count": len(rows), "statuses": dict(names)}
    figures |= _figures("infer", sound["infer_ns"], 1e6, "ms")
    figures |= _figures("latency", sound["done_ns"] - sound["asked_ns"], 1e6, "ms")
    return figures | _figures("frame_age", sound["frame_age_ns"], 1e6, "ms")


def _figures(name: str, samples_ns: NDArray[Any], divisor: float, unit: str) -> dict[str, float | None]:
    """p50, p99, p99.9 and maximum; None where nothing was measured."""
    summary: Summary | None = summarise(samples_ns / divisor) if len(samples_ns) else None
    parts = ("p50", "p99", "p999", "maximum")
    return {
        f"{name}_{'max' if part == 'maximum' else part}_{unit}": (
            None if summary is None else round(float(getattr(summary, part)), 3)
        )
        for part in parts
    }


def require_new_folder(folder: Path) -> None:
    """Raises Usage when a record would overwrite something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Usage(
            explain(
                f"{folder} is there already",
                "a new or empty folder",
                "files in it",
                "choose another --record",
            )
        )


def write_record(folder: Path, result: RunResult) -> None:
    """run.json, ticks.npy, inferences.npy, frames.npy: all of them or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        text = json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n"
        (staging / "run.json").write_text(text, encoding="utf-8")
        np.save(staging / "ticks.npy", result.ticks, allow_pickle=False)
        np.save(staging / "inferences.npy", result.inferences, allow_pickle=False)
        np.save(staging / "frames.npy", result.frames, allow_pickle=False)
        staging.chmod(0o755)
        if folder.exists():
            folder.rmdir()  # empty: require_new_folder has seen to it
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
