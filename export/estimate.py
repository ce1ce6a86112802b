"""What a compression will take, said before it starts: from file sizes, without loading anything."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from export.request import DIRECT, Request

PROCESS_MB = 550.0  # torch and the exporter, imported: resident in every process; 570 to 610 measured
BATCH_MB = 400.0  # of questions to the teacher and of training: 50 (tiny) to 650 (ACT, two cameras) measured
TRACE_MB = 350.0  # more while layers of a teacher are traced (ACT, Diffusion: 1,010 to 1,130 in all)
STUDENT = 3.2e6  # weights of a compact one
LARGEST_STUDENT = 20e6  # weights that a pruned one trains in memory; see docs/distillation.md for SmolVLA
EXPORT_S = 40.0  # graphs, int8, parity and golden vectors of a policy of a few million weights
EXPORT_S_PER_GB = 400.0  # more for a large one, per GB of its FP32 weights
BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.1, "nf4": 0.7}  # per weight, loaded
STORED = 3.0  # bytes of a weight on disk, between fp16 and fp32
UNPACKED = 1.6  # of a shard on disk
EXPORT_COPIES = 4.0  # of the FP32 weights while a graph is written, checked and quantized


@dataclass(frozen=True)
class Estimate:
    """Wall time, and memory of all processes together at their largest."""

    seconds: float
    memory_mb: float
    parts: tuple[str, ...]


def estimate(request: Request, budget_s: float) -> Estimate:
    """A rough figure: the budget is kept, the rest depends on this machine."""
    weights = weights_bytes(request.teacher.where) / STORED
    data_mb = data_bytes(request.data) / 1e6
    runs = 0 if request.mode == DIRECT else 3 if request.controls else 1
    each_mb = PROCESS_MB + BATCH_MB + weights * BYTES[request.teacher.precision] / 1e6 + data_mb
    distil_mb = request.processes * each_mb if runs else 0.0
    direct = request.mode == DIRECT
    exported = weights if direct else min(max(weights, STUDENT), LARGEST_STUDENT)
    export_mb = PROCESS_MB + data_mb + EXPORT_COPIES * exported * 4 / 1e6 + (TRACE_MB if direct else 0.0)
    export_s = EXPORT_S + EXPORT_S_PER_GB * exported * 4 / 1e9
    search_s = 0.0 if not request.artifact.search else request.artifact.search_budget_s or 240.0
    parts = [f"distillation {runs} x {budget_s / 60:.1f} min on {request.processes} cores"] if runs else []
    parts.append(f"graphs and parity {export_s / 60:.1f} min")
    if search_s:
        parts.append(f"search {search_s / 60:.1f} min")
    return Estimate(runs * budget_s + export_s + search_s, max(distil_mb, export_mb), tuple(parts))


def weights_bytes(where: str) -> float:
    """Of the weights in a policy folder; 0 for a function of a Python file."""
    return (
        float(sum(path.stat().st_size for path in Path(where).glob("*.safetensors"))) if Path(where).is_dir() else 0.0
    )


def data_bytes(where: str) -> float:
    """What a dataset holds in memory: our shards unpacked; decoded pictures of a LeRobotDataset, mapped from disk."""
    return UNPACKED * _bytes(where, "*.npz") + _decoded_bytes(Path(where) / "meta" / "info.json")


def _decoded_bytes(info: Path) -> float:
    """0 where the file cannot be read: the loader says what is wrong with it."""
    try:
        told = json.loads(info.read_text())
        shapes = [f["shape"] for f in told["features"].values() if f["dtype"] in ("video", "image")]
        return float(told["total_frames"] * sum(math.prod(shape) for shape in shapes))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0.0


def _bytes(where: str, pattern: str) -> float:
    folder = Path(where)
    return float(sum(path.stat().st_size for path in folder.glob(pattern))) if folder.is_dir() else 0.0
