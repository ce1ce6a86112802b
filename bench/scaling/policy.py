"""Cost of an inference along an axis: all its points in one interleaved run, one thread, ONNX Runtime, our int8."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.models import free_bytes
from bench.scaling.axes import Axis, config_of
from bench.scaling.build import EVERY
from edgevla.errors import Unsound, explain
from edgevla.policy.session import open_session
from edgevla.telemetry.interleaved import measure

LARGE = 30.0  # M parameters: from here on few repetitions
BYTES = 30  # of memory per parameter while one is built: module, program, two copies of the protobuf
_BUILD_S = 480.0


def points(axis: Axis, folder: Path, free: int | None = None) -> tuple[list[float], dict[float, str]]:
    """Values whose graphs are there or are made now, and why others are not."""
    free = free_bytes() if free is None else free
    wanted, skipped = [], {}
    for value in axis.values:
        need = (value * 1e6 if axis.name == "model size" else 3e6) * BYTES
        if need > free and not _ready(axis, folder, value):
            skipped[value] = f"building it takes some {need / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"
        else:
            wanted.append(value)
    missing = [value for value in wanted if not _ready(axis, folder, value)]
    large = [value for value in missing if axis.name == "model size" and value >= LARGE]
    batches = [[value for value in missing if value not in large], *([value] for value in large)]
    for batch in (batch for batch in batches if batch):
        why = _build(axis, folder, batch)
        skipped |= {value: why for value in batch if not _ready(axis, folder, value)}
    return [value for value in wanted if value not in skipped], skipped


def _name(axis: Axis, value: float) -> str:
    return f"{axis.name.replace(' ', '-')}-{value:g}"


def _ready(axis: Axis, folder: Path, value: float) -> bool:
    return (folder / _name(axis, value) / "point.json").is_file()


def _build(axis: Axis, folder: Path, values: Sequence[float]) -> str:
    """In one process, as importing torch takes longer than a small export. '' or why not all of them."""
    todo = json.dumps([{"name": _name(axis, value), "config": config_of(axis.name, value)} for value in values])
    command = [sys.executable, "-m", "bench.scaling.build", str(folder)]
    try:
        done = subprocess.run(command, input=todo, capture_output=True, text=True, timeout=_BUILD_S)
    except subprocess.TimeoutExpired:
        return f"not built within {_BUILD_S:g} s"
    words = done.stderr.strip().splitlines()
    return f"exit {done.returncode}: {words[-1][:200] if words else ''}" if done.returncode else ""


def costs(axis: Axis, values: Sequence[float], folder: Path, rounds: int, limit_s: float) -> dict[str, Any]:
    """ns of every round by value, and the parameters of each. Raises Unsound: fewer than two points."""
    if len(values) < 2:
        raise Unsound(explain(f"too few points of {axis.name}", "two", len(values), "free memory; see why in the file"))
    calls = {f"{value:g}": policy(folder / _name(axis, value)) for value in values}
    run = measure(calls, rounds, warmup=2, settle=1, limit_s=limit_s)
    told = [json.loads((folder / _name(axis, value) / "point.json").read_text()) for value in values]
    return {
        "values": list(values),
        "parameters": [one["parameters"] for one in told],
        "ns": [[int(ns) for ns in run.ns[f"{value:g}"]] for value in values],
        "stolen_s": run.stolen_s,
    }


def policy(folder: Path) -> Callable[[], Any]:
    """One inference of a built point."""
    sessions = [(name, open_session((folder / f"{name}.onnx").read_bytes(), name)) for name in EVERY]
    with np.load(folder / "inputs.npz") as file:
        given: Mapping[str, dict[str, Any]] = {
            name: {key.partition("/")[2]: file[key] for key in file.files if key.startswith(f"{name}/")}
            for name in EVERY
        }

    def infer() -> Any:
        answer: dict[str, Any] = {}
        for name, session in sessions:
            feeds = {key: answer.get(key, value) for key, value in given[name].items()}
            answer[name] = session.run(None, feeds)[0]
        return answer["head"]

    return infer
