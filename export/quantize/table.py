"""How far each artifact is from float, stage by stage, on real frames of any bundle with FP32 graphs.

    python -m export.quantize.table BUNDLE --data DIR [--frames 300] [--calibration 128] [--json FILE]

About 20 s for the reference student. Judged and calibrated on other episodes. Prints relative rms per stage (fed with
the float outputs of the stages before; a flow's step at one of its times per frame) and of the whole, whose largest
error is in normalised action units; with and without SmoothQuant. Stages that run once per instruction stay in float,
as in a bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.cli.output import megabytes, print_table, say
from edgevla.errors import EdgevlaError
from edgevla.policy.engine import open_session
from edgevla.telemetry.host import describe_host
from export.data.interface import RobotDataset
from export.data.load import open_dataset
from export.quantize.artifact import CPU_INT8, KINDS, quantize
from export.quantize.calibrate import Array
from export.quantize.readback import int8_share
from export.quantize.smoothquant import smooth
from export.search.engines import Feeds, ort_chain, stage_feeds, with_stages
from export.search.frames import bundle_frames, float_graphs
from export.search.sensitivity import in_one_line


@dataclass(frozen=True)
class Policy:
    """FP32 graphs by stage, in the order they run; `times` of the last, where it is a flow; actions of a chunk."""

    floats: Mapping[str, bytes]
    times: tuple[float, ...]
    actions: int


@dataclass(frozen=True)
class Reference:
    """What the FP32 graphs were fed and answered. Lists by frame; one entry of `answers` per output of the stage."""

    policy: Policy
    calibration: Mapping[str, Sequence[Feeds]]  # stage -> feeds
    feeds: Mapping[str, Sequence[Feeds]]
    answers: Mapping[str, Sequence[Sequence[Array]]]
    frames: Sequence[Feeds]
    chunks: Sequence[Array]  # (1, H, A) each


@dataclass(frozen=True)
class Row:
    """One kind. Errors: relative rms per stage and of the whole, and its largest in normalised action units."""

    kind: str
    smooth: bool
    stages: Mapping[str, float]
    whole: float
    largest: float
    int8_share: float | None  # of the last stage's multiply-adds
    bytes: int


def answers(graph: bytes, feeds: Iterable[Feeds]) -> list[list[Array]]:
    """What a stage answers to each of its feeds."""
    session = open_session(graph, "table")
    return [session.run(None, dict(feed)) for feed in feeds]


def reference(policy: Policy, calibration: Sequence[Feeds], frames: Sequence[Feeds]) -> Reference:
    """Runs the FP32 graphs. calibration, frames: raw inputs and what stages that are not of the policy answered."""
    feeds = stage_feeds(policy.floats, frames, policy.times)
    return Reference(
        policy,
        stage_feeds(policy.floats, calibration, policy.times),
        feeds,
        {stage: answers(graph, feeds[stage]) for stage, graph in policy.floats.items()},
        frames,
        chunks(policy.floats, policy, frames),
    )


def chunks(graphs: Mapping[str, bytes], policy: Policy, frames: Sequence[Feeds]) -> list[Array]:
    """(1, H, A) of each frame."""
    chain = ort_chain(graphs, policy.times)
    return [chain(frame)[..., : policy.actions] for frame in frames]


def compare(graphs: Mapping[str, bytes], kind: str, known: Reference) -> Row:
    """One row: `graphs`, those of the policy or smoothed, as artifacts against what FP32 answers.

    Raises:
        EdgevlaError: the kind cannot be made of these graphs.
    """
    made = {stage: quantize(graph, kind, calibration=known.calibration[stage]) for stage, graph in graphs.items()}
    errors = {s: relative_rms(answers(made[s], known.feeds[s]), expected) for s, expected in known.answers.items()}
    got = chunks(made, known.policy, known.frames)
    return Row(
        kind,
        graphs != known.policy.floats,
        errors,
        relative_rms([got], [known.chunks]),
        float(np.abs(np.subtract(got, known.chunks)).max()),
        int8_share(made[list(made)[-1]]) if kind in CPU_INT8 else None,
        sum(map(len, made.values())),
    )


def relative_rms(got: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]]) -> float:
    """Over everything that was answered."""
    error = square = 0.0
    for mine, theirs in zip(got, expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            error += float(np.square(a.astype(np.float64) - b).sum())
            square += float(np.square(b.astype(np.float64)).sum())
    return float(np.sqrt(error / max(square, 1e-30)))


def table(bundle: Bundle, data: RobotDataset, count: int, calibration: int) -> tuple[list[Row], list[str]]:
    """All kinds, plain and smoothed; and notes: where the frames come from, kinds that cannot be made, and why.

    Raises:
        BadInput: no FP32 graphs, or no such frames.
    """
    graphs, fixed, times = float_graphs(bundle)
    found = bundle_frames(bundle, data, count, calibration)
    once = {stage: graph for stage, graph in graphs.items() if stage in fixed}
    judged, calibrating = with_stages(once, found.judged), with_stages(once, found.calibration)
    policy = Policy({s: g for s, g in graphs.items() if s not in fixed}, times, len(bundle.manifest.channels))
    known = reference(policy, calibrating, judged)
    smoothed = {stage: smooth(graph, known.calibration[stage]).graph for stage, graph in policy.floats.items()}
    rows, notes = list[Row](), [found.note]
    for side in (policy.floats, smoothed):
        for kind in KINDS[1:]:
            try:
                rows.append(compare(side, kind, known))
            except EdgevlaError as error:
                notes.append(f"{kind} is left out: {in_one_line(error)}")
    return rows, notes


def main(arguments: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--work", type=Path, default=Path("out/table"), help="for decoded video")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--calibration", type=int, default=128)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    try:
        bundle = open_bundle(asked.bundle)
        rows, notes = table(bundle, open_dataset(asked.data, asked.work), asked.frames, asked.calibration)
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    stages = list(rows[0].stages) if rows else []
    columns = ["artifact", *stages, "whole", "largest", "last stage in int8", "size"]
    print_table(f"relative rms against FP32, {asked.frames} frames", columns, [_cells(row) for row in rows])
    for note in notes:
        say(note)
    if asked.json:
        part = asked.json.with_name(f".{asked.json.name}.part")
        result = {"rows": [asdict(r) for r in rows], "frames": asked.frames, "notes": notes, "host": describe_host()}
        part.write_text(json.dumps(result, indent=1))
        os.replace(part, asked.json)
    return 0


def _cells(row: Row) -> tuple[str, ...]:
    errors = (f"{value:.5f}" for value in (*row.stages.values(), row.whole))
    share = "" if row.int8_share is None else f"{row.int8_share:.1%}"
    name = f"{row.kind}{' + SmoothQuant' if row.smooth else ''}"
    return (name, *errors, f"{row.largest:.3f}", share, megabytes(row.bytes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
