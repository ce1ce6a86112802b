"""Teacher, student FP32 and student int8 on the same scenes, and what that says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.sim.metaworld import TASKS
from examples.metaworld.episodes import half_way, paired
from export.distill.progress import Reporter
from export.evidence.outcomes import Row, play_recorded, share
from export.evidence.paired import compare, count_pairs
from export.evidence.rollouts import PolicySpec

MODELS = {"teacher": "teacher", "student_fp32": "fp32", "student_int8": "int8"}  # report's name -> kind of policy
Rows = Mapping[str, list[Row]]


def play_policies(
    bundle: Path, teacher: Path, folder: Path, per_task: int, per_instruction: int, workers: int
) -> dict[str, list[Row]]:
    """Rows per model: paired episodes first, then half-way scenes. Played ones are taken from `folder`."""
    episodes = paired(per_task) + half_way(per_instruction)
    rows = {}
    for name, kind in MODELS.items():
        reporter = Reporter(f"{len(episodes)} episodes, {name}", len(episodes))
        path = folder / f"{name}.parquet"
        rows[name] = play_recorded(PolicySpec(kind, bundle, teacher), episodes, path, workers, reporter.show)
        reporter.close()
    return rows


def comparison(rows: Rows) -> tuple[dict[str, Any], dict[str, Any]]:
    """`success{}` of report.json and its figures per task and half-way scene."""
    pairs = {name: [row for row in part if not row.episode.half_way] for name, part in rows.items()}
    halves = {name: [row for row in part if row.episode.half_way] for name, part in rows.items()}
    verdict = compare(_flags(pairs["teacher"]), _flags(pairs["student_int8"]))
    success = {
        "pairs": len(pairs["teacher"]),
        **{name: share(part) for name, part in pairs.items()},
        "loss": verdict.loss,
        "loss_interval95": [verdict.low, verdict.high],
        "loss_upper95": verdict.upper95,
        "mcnemar_p": verdict.mcnemar_p,
        "halfway": share(halves["student_int8"]),
        "halfway_teacher": share(halves["teacher"]),
    }
    return success, {"per_task": [_task(task, pairs) for task in TASKS], "halfway": halfway_rows(halves)}


def _flags(rows: list[Row]) -> list[bool]:
    return [row.success for row in rows]


def _task(task: str, pairs: Rows) -> dict[str, Any]:
    flags = {name: [row.success for row in part if row.episode.task == task] for name, part in pairs.items()}
    counts = count_pairs(flags["teacher"], flags["student_int8"])
    return {
        "task": task,
        "pairs": len(flags["teacher"]),
        **{name: sum(part) for name, part in flags.items()},
        "only_teacher": counts.only_reference,
        "only_int8": counts.only_candidate,
    }


def halfway_rows(halves: Rows) -> list[dict[str, Any]]:
    """One row per instruction and model: how often the joint moved the way the words say."""
    rows = []
    for model, part in halves.items():
        for task in sorted({row.episode.task for row in part}):
            mine = [row for row in part if row.episode.task == task]
            scene, direction = task.split("-")[:2]
            right = sum(row.success for row in mine)
            row = {"scene": f"{scene} half open", "instruction": direction, "model": model}
            rows.append({**row, "episodes": len(mine), "right": right})
    return rows
