r"""Success of the policy of many tasks, and what int8 costs of it; stop it at any time and start it again.

    python -m examples.metaworld.mt.evaluate --bundle out/mt10/student.bundle --teacher out/mt10/teacher

On fresh scenes, with sentences that training never saw:
1. teacher and student int8 on the same seeds, in the fixed-latency loop of the bundle and from its one noise,
   group-sequentially up to the last look declared in `DESIGN`;
2. on the same scenes the student in FP32, and the teacher as its authors would run it: fresh noise at every inference;
3. both instructions of a mechanism from the same half-way scenes;
4. at the end, alone: how long an inference of int8 takes on one core.
A bundle that was published without its FP32 graphs is played without them.
Outcomes (parquet) and evaluation.json go to out/mt10/results. `--recount` plays nothing and measures nothing: it
computes evaluation.json again from the outcomes that are there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import profiles
from bench.files import write_json
from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.errors import BadInput, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Episode
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.interleaved import measure as measure_latency
from examples.ended import ended
from examples.metaworld.compare import halfway_rows
from examples.metaworld.evidence import Player
from examples.metaworld.mt.command import (
    add_teacher,
    host_of,
    out_of,
    parser_of,
    read_result,
    recount_into,
    require_given,
    require_newest,
    require_teacher,
)
from examples.metaworld.mt.episodes import FRESH_SEED, fresh, half_way
from examples.metaworld.mt.tasks import DIFFICULTIES, SETS, MtTask, Which, tasks
from export.evidence.outcomes import Row, read_rows, share
from export.evidence.paired import Design, PairCounts, compare_counts, count_pairs, sequential_verdict
from export.evidence.rollouts import PolicySpec, loop_of
from export.shards import files_of
from export.structures.teacher import WEIGHTS

SCHEMA = "edgevla.mt/2"
FLOAT = "student-fp32"
STORED = {
    "int8": (onnx.TensorProto.INT8, onnx.TensorProto.UINT8),
    "float": (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16),
}
OUTCOMES, RESULT = "outcomes", "evaluation.json"
# Declared before the first look: one-sided, O'Brien-Fleming spending, equal shares of every task.
DESIGN = Design(margin=0.02, alpha=0.05, looks=(500, 1000, 1500, 2000, 2500))
ROUNDS, LATENCY_LIMIT_S = 1000, 60.0


@dataclass(frozen=True)
class Plan:
    """What is played, declared before the first episode."""

    tasks: tuple[MtTask, ...]
    design: Design = DESIGN
    published_per_task: int = 10  # of the published protocol
    half_way_per_instruction: int = 25

    def pairs(self, count: int) -> list[Episode]:
        """The first `count` pairs, as many of each task."""
        return fresh(self.tasks, count // len(self.tasks))


@dataclass(frozen=True)
class Specs:
    """The policies that are compared. Paths may be None where nothing is played; has_float: whether outcomes of the
    student in FP32 are counted then, None: where there are any."""

    bundle: Path | None = None
    teacher: Path | None = None
    has_float: bool | None = None

    def of(self, kind: str) -> PolicySpec:
        return PolicySpec(kind, self.bundle, self.teacher if kind.startswith("teacher") else None)


def figures(player: Player, plan: Plan, specs: Specs) -> dict[str, Any]:
    """Every figure that comes from outcomes; the player plays them, or finds them."""
    reference, candidate, verdict = sequential(player, plan, specs)
    played = [row.episode for row in candidate]
    authors = player.play("teacher-fresh", specs.of("teacher-noise"), played)
    student = player.play(FLOAT, specs.of("fp32"), played) if _has_float(player, specs) else []
    halves = {
        "teacher": player.play("half-way-teacher", specs.of("teacher"), _halves(plan)),
        "int8": player.play("half-way-int8", specs.of("int8"), _halves(plan)),
    }
    few = plan.published_per_task
    success = {
        "teacher_fresh": authors, "teacher_fresh_10": first_scenes(authors, few), "teacher": reference,
        "student_fp32": student, "int8": candidate, "int8_10": first_scenes(candidate, few),
    }  # fmt: skip
    return {
        "success": {name: successes(rows, plan.tasks) for name, rows in success.items() if rows},
        "sequential": verdict,
        "steps": _steps({"teacher_fresh": authors, "teacher": reference, "student_fp32": student, "int8": candidate}),
        "halfway": halfway_rows(halves),
        "policies": dict(player.policies),
    }


def _has_float(player: Player, specs: Specs) -> bool:
    """Whether the student in FP32 can be played, or counted again."""
    if specs.bundle is None:
        return player.has(FLOAT) if specs.has_float is None else specs.has_float
    found = any(name.startswith("float/") for name in open_bundle(specs.bundle).manifest.files)
    if not found:
        print(f"{FLOAT}: not played, {specs.bundle} was published without its FP32 graphs", flush=True)
    return found


def _steps(played: Mapping[str, list[Row]]) -> list[dict[str, Any]]:
    """What each step from the first policy to the last costs on the same scenes: each beside the one before it."""
    chain = [(name, [row.success for row in rows]) for name, rows in played.items() if rows]
    return [
        {"reference_policy": before, "policy": name, **compare_counts(count_pairs(mine, own)).as_dict()}
        for (before, mine), (name, own) in pairwise(chain)
    ]


def sequential(player: Player, plan: Plan, specs: Specs) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Teacher against int8, look by look, until the boundary is crossed or the looks are used up: rows and verdict."""
    looks: list[PairCounts] = []
    for pairs in plan.design.looks:
        reference = player.play("teacher", specs.of("teacher"), plan.pairs(pairs))
        candidate = player.play("int8", specs.of("int8"), plan.pairs(pairs))
        looks.append(count_pairs([row.success for row in reference], [row.success for row in candidate]))
        verdict = sequential_verdict(plan.design, looks)
        if verdict.decision == "non-inferior":
            break
    return reference, candidate, {**verdict.as_dict(), "paired": compare_counts(looks[-1]).as_dict()}


def _halves(plan: Plan) -> list[Episode]:
    return half_way(plan.half_way_per_instruction, plan.tasks)


def first_scenes(rows: Sequence[Row], per_task: int) -> list[Row]:
    """Those of the first fresh scenes of every task."""
    return [row for row in rows if row.episode.seed < FRESH_SEED + per_task]


def successes(rows: Sequence[Row], judged: Sequence[MtTask]) -> dict[str, Any]:
    """mean, per_task, by_difficulty (every task counts alike) and episodes of the rows."""
    per_task = {task.name: share([row for row in rows if row.episode.task == task.name]) for task in judged}
    groups = {group: [per_task[t.name] for t in judged if t.difficulty == group] for group in DIFFICULTIES}
    return {
        "mean": share(rows),
        "per_task": per_task,
        "by_difficulty": {group: sum(shares) / len(shares) for group, shares in groups.items() if shares},
        "episodes": len(rows),
    }


def recounted(folder: Path, plan: Plan | None = None, has_float: bool | None = None) -> dict[str, Any]:
    """Every figure of evaluation.json that comes from outcomes, again from FOLDER/outcomes alone.

    Args:
        folder: that evaluation.json stands in.
        plan: what was played; None: the whole plan of the set whose tasks were.
        has_float: whether the student in FP32 was among them; None: where there are outcomes of one.

    Raises:
        BadInput: outcomes are missing, or of several policies.
    """
    player = Player(folder / OUTCOMES, recount=True)
    with contextlib.redirect_stdout(io.StringIO()):  # the player tells what it finds
        return figures(player, plan or Plan(tasks(set_in(folder))), Specs(has_float=has_float))


def set_in(folder: Path) -> Which:
    """The set of tasks whose outcomes are in the folder. Raises BadInput: of none of them."""
    played = {row.episode.task for row in read_rows(folder / OUTCOMES / "teacher.parquet")}
    for which in SETS:
        if played == {task.name for task in tasks(which)}:
            return which
    expected = " or ".join(f"all tasks of {which}" for which in SETS)
    raise BadInput(explain("teacher.parquet", expected, f"{len(played)} tasks", "let evaluate go on"))


def evaluate(plan: Plan, which: str, bundle: Path, teacher: Path, out: Path) -> dict[str, Any]:
    """Plays what is missing and measures; evaluation.json. Raises BadInput: `out` has outcomes of later policies."""
    opened = require_teacher(teacher, bundle)
    player = Player(out / OUTCOMES)
    figures(player, plan, Specs(bundle, teacher))
    found = recounted(out, plan, FLOAT in player.policies)
    require_newest(out, found["policies"], player.policies)
    weights = sum(file.stat().st_size for file in files_of(teacher / WEIGHTS))
    return {
        "schema": SCHEMA,
        "set": which,
        "host": host_of(out / RESULT, player.has_played),
        "bundle": identity(opened),
        "teacher": {"parameters": opened.manifest.teacher.parameters, "bytes": weights},
        "latency": {**latency(opened), "host": describe_host()},
        **found,
    }


def identity(bundle: Bundle) -> dict[str, Any]:
    """Size, parameters and hash of a bundle. bytes: of the int8 graphs; int8_parameters, float_parameters: numbers in
    them; sha256: of its manifest, which holds all."""
    manifest = bundle.manifest
    graphs = [onnx.load_from_string(bundle.read(name)) for name in manifest.files if name.endswith(".onnx")
              and name.startswith("model/")]  # fmt: skip
    stored = [tensor for graph in graphs for tensor in graph.graph.initializer]
    return {
        "bytes": bundle.total_bytes("model/"),
        **{f"{kind}_parameters": _numbers(stored, types) for kind, types in STORED.items()},
        "parameters": manifest.student.parameters,
        "sha256": bundle.sha256,
        "teacher_sha256": manifest.teacher.sha256,
        "artifact": manifest.artifact,
    }


def _numbers(tensors: Sequence[onnx.TensorProto], types: Sequence[int]) -> int:
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in types)


def latency(bundle: Bundle, rounds: int = ROUNDS) -> dict[str, Any]:
    """One inference of int8, from raw picture to chunk, on one core. hz_one_core: inferences in a second of them."""
    target = profiles.load_target(bundle.manifest.target)
    loop, engine, golden = loop_of(bundle.path), PolicyEngine(bundle), next(iter(bundle.golden.values()))
    engine.set_instruction(golden.instruction)
    delay = loop.schedule.delay if loop.blend_ticks is None else 0
    prefix = np.zeros((delay, len(bundle.manifest.channels)), np.float32)
    infer = partial(engine.infer, golden.images, golden.state, prefix)
    with _one_core():
        run = measure_latency({"int8": infer}, rounds, warmup=20, limit_s=LATENCY_LIMIT_S)
    found = run.summary()["int8"]
    return {
        **{key: round(found[key], 4) for key in ("p50_ms", "p99_ms")},
        "hz_one_core": round(1e9 / float(run.ns["int8"].mean()), 1),
        "budget_L_ms": 1e3 * target.latency_budget_s,
        "rounds": run.rounds,
        "stolen_s": run.stolen_s,
    }


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """This process on one of its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = parser_of(__doc__)
    add_teacher(parser)
    return ended(_work, parser, given)


def _work(asked: argparse.Namespace) -> None:
    out = out_of(asked)
    plan = Plan(tasks(asked.set))
    if asked.recount:
        there = read_result(out / RESULT, "policies", "bundle", "latency")
        counted = recounted(out, plan, FLOAT in there["policies"])
        require_newest(out, counted["policies"], there["policies"])
        found = recount_into(out / RESULT, there, counted)
    else:
        require_given(asked, "bundle", "teacher")
        found = evaluate(plan, asked.set, asked.bundle, asked.teacher, out)
    write_json(out / RESULT, found)
    _tell(found)
    print(f"wrote {out / RESULT}")


def _tell(found: dict[str, Any]) -> None:
    for name, told in found["success"].items():
        print(f"{name:17} {100 * told['mean']:5.1f} % of {told['episodes']}")
    verdict, pairs = found["sequential"], found["sequential"]["paired"]
    at_most = 100 * verdict["looks"][-1]["upper_bound"]
    print(f"int8 {verdict['decision']} after {pairs['pairs']} pairs: it loses at most {at_most:.2f} points, 2 allowed")
    print(f"latency p50 {found['latency']['p50_ms']} ms, p99 {found['latency']['p99_ms']} ms on one core")


if __name__ == "__main__":
    raise SystemExit(main())
