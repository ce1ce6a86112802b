"""The same bundle on another CPU architecture: golden vectors from raw camera bytes, stage by stage, in action units.

    python -m bench.parity_arm64 out/demo/student.bundle --out bench/results/parity-arm64.json

Three machines answer: this one as it is, this one with the robot's lock, and an arm64 user space under qemu-user with
the robot's lock (scripts/parity_arm64.sh; a Cortex-A76, the vector instructions of an Orin). So what the version of
ONNX Runtime changes is told apart from what the architecture changes. An error of a stage in action units is what the
chunk becomes when that stage and those before it come from the other machine and the rest runs here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.bundle import Bundle, open_bundle
from edgevla.bundle.answers import (
    PREPROCESS,
    StageError,
    answer_all,
    answers_of,
    between,
    errors_in_units,
    first_divergence,
    read_answers,
    worst_channel,
    write_answers,
)
from edgevla.bundle.arrays import Array
from edgevla.cli.output import print_table
from edgevla.errors import EdgevlaError, Refused, Unsound, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.host import describe_host

SCHEMA = "edgevla.parity-arm64/1"
ROOT = Path(__file__).resolve().parent.parent
CACHE, LOCK = ROOT / "out" / "cache" / "arm64", ROOT / "requirements" / "robot.txt"
SCRIPT = ROOT / "scripts" / "parity_arm64.sh"
Answers = Mapping[str, Mapping[str, Array]]


def this_machine(bundle: Bundle, dest: Path) -> None:
    """Answers of this process."""
    write_answers(dest, answer_all(bundle))


def this_machine_with_lock(bundle: Bundle, dest: Path) -> None:
    """Answers of this CPU with the packages that a robot has. Raises Unsound: they cannot be had."""
    packages = CACHE / f"host-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    if not packages.is_dir():
        part = packages.with_name(packages.name + ".part")
        command = ["-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:", "--target", str(part)]
        _run([sys.executable, *command, "-r", str(LOCK)], {}, "the robot's packages")
        part.rename(packages)
    paths = {"PYTHONPATH": f"{ROOT}:{packages}", "OMP_NUM_THREADS": "1"}
    _run([sys.executable, "-m", "edgevla.bundle.answers", str(bundle.path), str(dest)], paths, "answers of the lock")


def arm64(bundle: Bundle, dest: Path) -> None:
    """Answers of an emulated arm64. Raises Unsound: it cannot be made or does not answer."""
    _run([str(SCRIPT), str(bundle.path), str(dest)], {"PYTHON": sys.executable}, "arm64 under qemu-user")


def _run(command: list[str], environment: Mapping[str, str], what: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        got = (done.stderr or done.stdout).strip()[-600:]
        raise Unsound(explain(what, "answers", got, "see the message, then run it again"))


MACHINES = {"host": this_machine, "host-lock": this_machine_with_lock, "arm64": arm64}
PAIRS = (("host-lock", "arm64"), ("host", "host-lock"), ("host", "arm64"))  # expected, got


def compare(bundle: Bundle, engine: PolicyEngine, expected: Answers, got: Answers) -> list[dict[str, Any]]:
    """One row per stage, its worst over all golden vectors."""
    rows: dict[str, dict[str, Any]] = {}
    stages = [PREPROCESS, *(stage.name for stage in bundle.manifest.stages)]
    for vector, golden in bundle.golden.items():
        own = answers_of(engine, golden)
        errors = between(expected[vector], got[vector], bundle.manifest)
        for stage in stages:
            found = [error for error in errors if error.stage == stage]
            cost = _cost(bundle, engine, own, got[vector], expected[vector], stage)
            _merge(rows, stage, vector, found, cost, golden.tolerance, bundle)
    return list(rows.values())


def _cost(
    bundle: Bundle,
    engine: PolicyEngine,
    own: Mapping[str, Array],
    got: Mapping[str, Array],
    expected: Mapping[str, Array],
    stage: str,
) -> Array:
    """Change (H, A) of the chunk when `stage` and all before it come from `got` instead of `expected`."""
    names = [s.name for s in bundle.manifest.stages]
    done = names[: names.index(stage) + 1] if stage in names else []
    made = {t.name for s in bundle.manifest.stages for t in s.outputs}
    taken = {t.name for s in bundle.manifest.stages if s.name in done for t in s.outputs}

    def chunk(answers: Mapping[str, Array]) -> Array:
        known = {**own, **{n: v for n, v in answers.items() if n in taken or n not in made}}
        return engine.finish(known, len(done))

    difference: Array = chunk(got).astype(np.float64) - chunk(expected)
    return difference


def _merge(
    rows: dict[str, dict[str, Any]],
    stage: str,
    vector: str,
    errors: list[StageError],
    cost: Array,
    tolerance: float,
    bundle: Bundle,
) -> None:
    worst = max(errors, key=lambda error: error.error)
    action, unit = worst_channel(cost, bundle.manifest)
    normalised = float(np.abs(cost).max())
    row = rows.setdefault(stage, {"stage": stage, "error": -1.0, "action_error_normalised": -1.0, "diverges": False})
    channels = row.setdefault("by_channel", {})  # each in its own unit
    for name, value in errors_in_units(cost, bundle.manifest).items():
        channels[name] = max(value, channels.get(name, 0.0))
    row["diverges"] = row["diverges"] or first_divergence(errors, tolerance) is not None
    if worst.error > row["error"]:
        row.update(error=worst.error, output=worst.output, largest=worst.largest)
    if normalised > row["action_error_normalised"]:
        row.update(action_error_normalised=normalised, action_error=action, unit=unit, vector=vector)


def recorded_error(bundle: Bundle, got: Answers) -> tuple[float, float]:
    """Largest error of any chunk against the golden vectors, normalised, as a share of its tolerance too."""
    pairs = [(np.abs(got[name]["chunk"][0] - golden.chunk).max(), golden) for name, golden in bundle.golden.items()]
    return float(max(error for error, _ in pairs)), float(max(error / golden.tolerance for error, golden in pairs))


def measure(bundle: Bundle, work: Path, out: Path) -> dict[str, Any]:
    work.mkdir(parents=True, exist_ok=True)
    engine, answers, environments, seconds = PolicyEngine(bundle), {}, {}, {}
    for name, run in MACHINES.items():
        started = time.monotonic()
        run(bundle, work / f"{name}.npz")
        seconds[name] = round(time.monotonic() - started, 2)
        answers[name], environments[name] = read_answers(work / f"{name}.npz")
    comparisons = {}
    for expected, got in PAIRS:
        rows = compare(bundle, engine, answers[expected], answers[got])
        first = next((row["stage"] for row in rows if row["diverges"]), None)
        comparisons[f"{expected} -> {got}"] = {"first_diverging_stage": first, "stages": rows}
    against = {name: recorded_error(bundle, answers[name]) for name in MACHINES}
    result = {
        "schema": SCHEMA,
        "command": f"python -m bench.parity_arm64 {bundle.path.name} --out {out.name}",
        "bundle": {"name": bundle.manifest.name, "artifact": bundle.manifest.artifact, "vectors": len(bundle.golden)},
        "channels": [asdict(channel) for channel in bundle.manifest.channels],
        "host": describe_host(),
        "emulator": "qemu-user, Cortex-A76",
        "environments": environments,
        "seconds": seconds,
        "against_recorded": {name: {"error": error, "of_tolerance": share} for name, (error, share) in against.items()},
        "comparisons": comparisons,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(part, out)
    return result


def print_result(result: Mapping[str, Any]) -> None:
    for pair, found in result["comparisons"].items():
        names = [result["environments"][name] for name in pair.split(" -> ")]
        title = " -> ".join(f"{e['machine']}, onnxruntime {e['onnxruntime']}" for e in names)
        rows = [
            (
                row["stage"],
                f"{row['error']:.2g} in {row['output']} (largest {row['largest']:.2g})",
                f"{row['action_error']:.2g} {row['unit']}",
                "DIVERGES" if row["diverges"] else "same",
            )
            for row in found["stages"]
        ]
        print_table(title, ["stage", "largest error of its output", "cost in action units", ""], rows)
        print(f"first diverging stage: {found['first_diverging_stage'] or 'none'}\n")
    for name, found in result["against_recorded"].items():
        print(f"{name}: chunk {found['error']:.2g} off the recorded one, {found['of_tolerance']:.1%} of the tolerance")


def judge(result: Mapping[str, Any]) -> None:
    """Raises Refused where a machine does not keep the golden vectors."""
    for name, found in result["against_recorded"].items():
        if not found["of_tolerance"] <= 1:
            stage = result["comparisons"]["host -> arm64"]["first_diverging_stage"]
            got = f"{found['of_tolerance']:.1f} times the tolerance; first diverging stage: {stage}"
            raise Refused(explain(f"golden vectors on {name}", "the recorded chunks", got, "see the table"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--out", type=Path, default=Path("bench/results/parity-arm64.json"))
    given = parser.parse_args()
    try:
        result = measure(open_bundle(given.bundle), CACHE / "answers", given.out)
        print_result(result)
        judge(result)
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
