"""The generated part of docs/benchmarks.md: every subject, then what others submitted. Pure but for reading files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.benchmarks.row import block, plain, table, three, whole
from bench.benchmarks.subjects import SUBJECTS
from bench.submit.document import checked
from edgevla.errors import BadInput, explain


def benchmarks(folder: Path) -> str:
    """The block. Raises BadInput for a committed file that is no JSON, or lacks what its table shows."""
    parts = []
    for subject in SUBJECTS:
        found = _read(folder / subject.file)
        try:
            parts.append(block(subject, found))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            got = f"{type(error).__name__}: {error}"
            todo = f"measure it again: {subject.command}"
            raise BadInput(explain(f"{subject.file} lacks what its table shows", "a whole result", got, todo)) from None
    return "\n\n".join([*parts, submitted(folder / "submitted")])


def submitted(folder: Path) -> str:
    """The table of what others measured, with its origin. Raises BadInput for a file that is no sound submission."""
    head = ("board", "target, power mode", "stage", "p50 / p99", "samples", "largest", "origin")
    body = []
    for path in sorted(folder.glob("*.submission.json")):
        found = checked(_read(path))
        origin = f"[submitted](../bench/results/submitted/{path.name}) by {found['by']}, not reproduced by us"
        place = f"{found['target']['name']}, {found['environment'].get('power_mode') or 'power mode not said'}"
        for stage, told in found["stages"].items():
            times = three(told, "us", ("p50_us", "p99_us"))
            body.append((str(found["host"]["cpu"]), place, stage, times, whole(told["count"]),
                         f"{plain(told['max_us'])} us", origin))  # fmt: skip
    title = "## Submitted by others"
    return f"{title}\n\n{table(head, body) if body else 'None yet: [how](predict.md#submit).'}"


def _read(path: Path) -> Any:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(explain(f"{path.name} is no result", "JSON", error, "measure it again")) from None
