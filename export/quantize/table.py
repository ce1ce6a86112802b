"""How far each artifact is from float, stage by stage, on real frames. About 20 s for the reference student.

    python -m export.quantize.table BUNDLE --data DIR [--frames 300] [--calibration 128] [--json FILE]

Calibrates on frames of every other episode and compares on the rest. Prints relative rms per stage (fed with the float
outputs of the stages before) and of the whole, whose largest error is in normalised action units; with and without
SmoothQuant. The words' stage stays in float, as in a bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.cli.output import megabytes, print_table
from edgevla.errors import EdgevlaError
from edgevla.policy.engine import open_session
from edgevla.telemetry.host import describe_host
from export.distill.dataset import Batches, Demonstrations, Sampling
from export.quantize.artifact import CPU_INT8, KINDS, quantize
from export.quantize.calibrate import Array
from export.quantize.graph import load
from export.quantize.readback import int8_share
from export.quantize.smoothquant import smooth

STAGES = {"text": "text", "vision": "vision", "head": "chunk"}  # in order, with the name of the output
Frames = Mapping[str, Array]  # stage inputs and float outputs by name, first axis the frames


@dataclass(frozen=True)
class Row:
    """One kind. Errors: relative rms, and the largest of the whole in normalised action units."""

    kind: str
    smooth: bool
    vision: float
    head: float
    whole: float
    largest: float
    head_int8_share: float | None
    bytes: int


def stage_frames(bundle: Bundle, data: Demonstrations, count: int, parity: int, seed: int = 0) -> dict[str, Array]:
    """Inputs of all stages on frames of the even (0) or odd (1) episodes."""
    timing, stats = bundle.manifest.timing, bundle.stats
    sampling = Sampling(timing.horizon, timing.d_max, bundle.vocabulary.max_tokens, word_dropout=0.0)
    episode = np.unique(data.start, return_inverse=True)[1]
    ticks = np.random.default_rng(seed).choice(np.flatnonzero(episode % 2 == parity), count)
    batch = Batches(data, sampling, 1, seed, (stats.state_mean, stats.state_std)).at(ticks)
    return {
        **{name: batch[name].numpy() for name in ("image", "tokens", "state")},
        "noise": np.repeat(bundle.noise[None], count, axis=0),
        "prefix": (batch["actions"] * batch["mask"]).numpy(),
        "prefix_mask": batch["mask"].numpy(),
    }


def run_stage(graph: bytes, frames: Frames) -> Array:
    """The stage's output on every frame."""
    session: Any = open_session(graph, "table")
    return np.concatenate([session.run(None, feed)[0] for feed in feeds(graph, frames)])


def feeds(graph: bytes, frames: Frames) -> list[dict[str, Array]]:
    """One feed per frame, batch 1."""
    names = [value.name for value in load(graph).graph.input]
    return [{name: frames[name][i : i + 1] for name in names} for i in range(len(frames["image"]))]


def with_outputs(graphs: Mapping[str, bytes], frames: Frames) -> Frames:
    """The frames with what every float stage answers."""
    known = dict(frames)
    for stage, output in STAGES.items():
        known[output] = run_stage(graphs[stage], known)
    return known


def compare(
    graphs: Mapping[str, bytes], floats: Mapping[str, bytes], kind: str, calibration: Frames, frames: Frames
) -> Row:
    """One row: `graphs` as artifacts against what `floats` answer on the frames."""
    made = {s: quantize(graphs[s], kind, calibration=feeds(graphs[s], calibration)) for s in ("vision", "head")}
    vision, head = (run_stage(made[stage], frames) for stage in made)
    whole = run_stage(made["head"], {**frames, "vision": vision})
    return Row(
        kind,
        graphs["head"] != floats["head"],
        relative_rms(vision, frames["vision"]),
        relative_rms(head, frames["chunk"]),
        relative_rms(whole, frames["chunk"]),
        float(np.abs(whole - frames["chunk"]).max()),
        int8_share(made["head"]) if kind in CPU_INT8 else None,
        sum(map(len, made.values())),
    )


def relative_rms(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got - expected) / max(float(np.linalg.norm(expected)), 1e-30))


def table(bundle: Bundle, data: Demonstrations, frames: int, calibration: int) -> list[Row]:
    """All kinds, plain and smoothed."""
    floats = {stage: bundle.model(stage, float_model=True) for stage in STAGES}
    calibrating = with_outputs(floats, stage_frames(bundle, data, calibration, 0))
    judging = with_outputs(floats, stage_frames(bundle, data, frames, 1))
    smoothed = {stage: smooth(floats[stage], feeds(floats[stage], calibrating)).graph for stage in STAGES}
    return [compare(graphs, floats, kind, calibrating, judging) for graphs in (floats, smoothed) for kind in KINDS[1:]]


def main(arguments: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--calibration", type=int, default=128)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    try:
        rows = table(open_bundle(asked.bundle), Demonstrations(asked.data), asked.frames, asked.calibration)
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    columns = ["artifact", "vision", "head", "whole", "largest", "head in int8", "size"]
    print_table(f"relative rms against FP32, {asked.frames} frames", columns, [_cells(row) for row in rows])
    if asked.json:
        part = asked.json.with_name(f".{asked.json.name}.part")
        result = {"rows": [asdict(row) for row in rows], "frames": asked.frames, "host": describe_host()}
        part.write_text(json.dumps(result, indent=1))
        os.replace(part, asked.json)
    return 0


def _cells(row: Row) -> tuple[str, ...]:
    errors = (f"{value:.5f}" for value in (row.vision, row.head, row.whole))
    share = "" if row.head_int8_share is None else f"{row.head_int8_share:.1%}"
    name = f"{row.kind}{' + SmoothQuant' if row.smooth else ''}"
    return (name, *errors, f"{row.largest:.3f}", share, megabytes(row.bytes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
