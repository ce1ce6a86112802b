r"""What mattered: the teacher's recipe and others that each differ in one thing from it, or from one that does.

    python -m examples.metaworld.mt.demos -o out/mt10/noise --disturb noise
    python -m examples.metaworld.mt.demos -o out/mt10/calm --disturb none
    python -m examples.metaworld.mt.ablations --data out/mt10/data --stills out/mt10/stills

One process for each core; stopped, it goes on when it is called again. Each variant is trained from scratch on as
many frames, packed in int8 as it is (all its flow steps, from z = 0) and played in the loop of fixed latency, all on
the same fresh scenes. One seed: a difference between two rows is that of two trainings, and no more is claimed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from edgevla.cli.output import print_table
from edgevla.control.realtime import die_with_parent
from edgevla.errors import BadInput, EdgevlaError, explain
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.stats import wilson_interval
from examples.arguments import positive
from examples.metaworld.mt.episodes import fresh
from examples.metaworld.mt.packed import packed
from examples.metaworld.mt.tasks import Which, tasks
from export.data.ours import OurData
from export.data.stills import Stills
from export.distill.alone import alone
from export.evidence.paired import compare
from export.evidence.rollouts import PolicySpec, play_all
from export.structures.recipe import Recipe, read_recipe
from export.structures.train import run_recipe
from export.study.play import claim, is_played, keep, read, result_of, simulator
from export.study.pool import Job, run_all

SCHEMA = "edgevla.ablations/1"
RECIPE = Path("examples/metaworld/mt/mt10.toml")
BASE = "as it is"
FRAMES, PER_TASK = 128_000, 10
ALPHA = 0.05  # that any difference is told which is none
FIRST = 100_000  # its scenes are others than those of the evidence


@dataclass(frozen=True)
class Data:
    """What the variants are trained on."""

    demonstrations: Path
    noise: Path
    calm: Path
    stills: Path

    def disturbed(self, how: str) -> Path:
        """The demonstrations that were disturbed so, see `demos.DISTURBERS`."""
        return {"pushes": self.demonstrations, "noise": self.noise, "none": self.calm}[how]


@dataclass(frozen=True)
class Variant:
    """The recipe with something changed. policy, sizes, stage: fields that differ; disturb: how the demonstrations
    were disturbed; beside: the variant that it differs from in one thing."""

    name: str
    what: str
    policy: Mapping[str, Any]
    sizes: Mapping[str, Any]
    stage: Mapping[str, Any]
    disturb: str = "pushes"
    beside: str = BASE


def _variant(
    name: str, what: str, disturb: str = "pushes", beside: str = BASE, **changed: Mapping[str, Any]
) -> Variant:
    policy, sizes, stage = (changed.get(key, {}) for key in ("policy", "sizes", "stage"))
    return Variant(name, what, policy, sizes, stage, disturb, beside)


_NO_STILLS = {"stills": None, "stills_share": 0.0}
VARIANTS = (
    _variant(BASE, "the recipe of the teacher"),
    _variant("no pictures", "the lesson of places from the demonstrations alone", stage=_NO_STILLS),
    _variant("not told", "a head that is given what was seen; places are a lesson beside it", policy={"told": 0}),
    _variant(
        "no places", "the same, and no such lesson, so no pictures for it", beside="not told",
        policy={"told": 0}, stage={"places": 0.0, **_NO_STILLS},
    ),
    _variant("unforeseen", "rows behind a push count too", stage={"foreseen": False}),
    _variant("one light", "every picture as it was taken", stage={"light": 0.0}),
    _variant("fine", "convolutions to 64 tokens in place of 16", sizes={"patch": 16}),
    _variant(
        "resampler", "the 64 tokens resampled to 16", beside="fine", policy={"resampled": 16}, sizes={"patch": 16}
    ),
    _variant(
        "history", "a policy head over 4 moments", beside="no pictures",
        policy={"structure": "policy-head", "window": 4}, stage=_NO_STILLS,
    ),
    _variant("long chunk", "64 ticks in place of 32; the loop takes none below 26", policy={"horizon": 64}),
    _variant("one pass", "a head of one pass, which learns the mean", policy={"head": "flow-one-pass"}),
    _variant("noise", "noise at every tick in place of pushes", "noise", "unforeseen", stage={"foreseen": False}),
    _variant("calm", "demonstrations without disturbance", "none"),
)  # fmt: skip


def recipe_of(variant: Variant, base: Recipe, data: Data, frames: int) -> Recipe:
    """The recipe of a variant, its first stage alone."""
    stage = base.stages[0]
    named = {"data": str(data.disturbed(variant.disturb)), "stills": str(data.stills)}
    return replace(
        base,
        policy={**base.policy, **variant.policy},
        backbone=replace(base.backbone, sizes={**base.backbone.sizes, **variant.sizes}),
        stages=(replace(stage, **{**named, "frames": frames, **variant.stage}),),
    )


def learns_from(recipe: Recipe, which: Which) -> dict[str, Any]:
    """What decides a variant: tasks, recipe, hashes of what it learns from. Raises BadInput: these cannot be read."""
    (stage,) = recipe.stages
    return {
        "set": which,
        "frames": stage.frames,
        "recipe": json.loads(json.dumps(asdict(recipe), default=str)),
        "demonstrations": _demonstrations(stage.data),
        "stills": _stills(stage.stills) if stage.stills else None,
    }


@cache  # thirteen variants learn from four folders
def _demonstrations(folder: str) -> str:
    return OurData(Path(folder)).sha256


@cache
def _stills(folder: str) -> str:
    return Stills(Path(folder)).sha256


def run_variant(variant: Variant, data: Data, work: Path, frames: int, per_task: int, which: Which) -> None:
    """Trains, packs and plays one; what stands in its folder is not done again."""
    folder = _folder(work, variant)
    done = result_of(folder, per_task)
    recipe = recipe_of(variant, read_recipe(RECIPE), data, frames)
    where = Path(recipe.stages[0].data)
    claim(folder, learns_from(recipe, which))
    if is_played(done):
        return
    teacher, train_s = run_recipe(recipe, folder / "policy")
    started = time.monotonic()
    bundle = packed(folder / "policy", where, folder)
    outcomes = play_all(PolicySpec("int8", bundle), fresh(which, per_task, FIRST), workers=1)
    keep(done, {
        "name": variant.name, "what": variant.what, "parameters": teacher.parameters_total, "frames": frames,
        "train_s": train_s, "played_s": time.monotonic() - started, "simulator": simulator(),
        "success": [bool(outcome.success) for outcome in outcomes], "ticks": [outcome.ticks for outcome in outcomes],
    })  # fmt: skip


def _folder(work: Path, variant: Variant) -> Path:
    return work / variant.name.replace(" ", "-")


def rows_of(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a variant: success, and the paired difference to the one that it stands beside. names: of the tasks, in
    order."""
    success, beside = {result["name"]: result["success"] for result in results}, {v.name: v.beside for v in VARIANTS}
    rows = []
    for result in results:
        mine, count = result["success"], len(result["success"])
        each, other = count // len(names), beside.get(result["name"], BASE)
        pair = compare(success[other], mine)
        rows.append({
            "name": result["name"], "what": result["what"], "parameters": result["parameters"], "episodes": count,
            "success": sum(mine) / count, "success_ci": list(wilson_interval(sum(mine), count)),
            "beside": other, "difference": 0.0 - pair.loss, "difference_ci": [-pair.high, -pair.low],
            "p": pair.mcnemar_p,
            "per_task": {name: sum(mine[i * each : (i + 1) * each]) / each for i, name in enumerate(names)},
        })  # fmt: skip
    return rows


def recounted(told: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and conclusions again, from the episodes in `raw` of a result."""
    what = {row["name"]: {key: row[key] for key in ("what", "parameters")} for row in told["rows"]}
    rows = rows_of([{**one, **what[one["name"]]} for one in told["raw"]], [task.name for task in tasks(told["set"])])
    return {"rows": rows, "conclusions": conclusions(rows)}


def conclusions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may be said with one seed: the differences that the episodes show, by Holm's method among all."""
    told = []
    for row in _shown(rows):
        low, high = row["difference_ci"]
        way = "better" if row["difference"] > 0 else "worse"
        amount = f"{100 * row['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        told.append(f"{row['name']} ({row['what']}) played {way} than {row['beside']}: {amount}")
    return [*told, "one training of each: another seed may turn a difference that is small"]


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows whose difference is none of chance at 5 % in all, however many were compared (Holm 1979), surest first."""
    compared = sorted((row for row in rows if row["name"] != BASE), key=lambda row: row["p"])
    surest = takewhile(lambda k: compared[k]["p"] <= ALPHA / (len(compared) - k), range(len(compared)))
    return [compared[k] for k in surest]


def run(data: Data, work: Path, frames: int, per_task: int, which: Which, workers: int) -> dict[str, Any]:
    """Every variant that is not done, and the result of all. Raises BadInput: one was done otherwise than asked."""
    base, jobs = read_recipe(RECIPE), []
    for variant in VARIANTS:
        folder = _folder(work, variant)
        claim(folder, learns_from(recipe_of(variant, base, data, frames), which))
        if not is_played(result_of(folder, per_task)):
            folders = {"data": data.demonstrations, "noise": data.noise, "calm": data.calm, "stills": data.stills}
            options = [word for name, path in folders.items() for word in (f"--{name}", str(path))]
            sizes = ("--work", str(work), "--frames", str(frames), "--per-task", str(per_task), "--set", which)
            command = ("-m", "examples.metaworld.mt.ablations", *options, *sizes, "--only", variant.name)
            jobs.append(Job(folder, command))
    run_all(jobs, workers)
    found = [read(result_of(_folder(work, variant), per_task)) for variant in VARIANTS]
    rows = rows_of(found, [task.name for task in tasks(which)])
    raw = [{key: one[key] for key in ("name", "success", "ticks", "train_s", "played_s")} for one in found]
    return {
        "schema": SCHEMA, "set": which, "frames": frames, "rows": rows, "conclusions": conclusions(rows), "raw": raw,
        "host": describe_host(),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; with `--only` one variant, as the command calls itself for each."""
    given = _parser().parse_args(arguments)
    data = Data(given.data, given.noise, given.calm, given.stills)
    try:
        for name, folder in asdict(data).items():
            if not (folder / "dataset.json").is_file():
                todo = "record it: see --help"
                raise BadInput(explain(f"{name}", "a folder with dataset.json", str(folder), todo))
        if given.only is not None:
            die_with_parent(given.parent, signal.SIGKILL)
            torch.set_num_threads(1)
            (variant,) = (variant for variant in VARIANTS if variant.name == given.only)
            run_variant(variant, data, given.work, given.frames, given.per_task, given.set)
            return
        with alone(given.work):
            found = run(data, given.work, given.frames, given.per_task, given.set, given.workers)
        keep(given.out, found)
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    if given.json:
        print(json.dumps(found))
        return
    shown = [
        (r["name"], r["what"], f"{100 * r['success']:.1f} %", r["beside"], f"{100 * r['difference']:+.1f}")
        for r in found["rows"]
    ]
    print_table("ablations", ("variant", "what", "success", "beside", "points"), shown)
    print("\n".join([*found["conclusions"], f"wrote {given.out}"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folders = {"data": "data", "noise": "noise", "calm": "calm", "stills": "stills", "work": "ablations"}
    paths = {name: f"out/mt10/{folder}" for name, folder in folders.items()}
    for name, default in {**paths, "out": "out/mt10/results/ablations.json"}.items():
        flags = ("-o", "--out") if name == "out" else (f"--{name}",)
        parser.add_argument(*flags, type=Path, default=Path(default), help="default %(default)s")
    parser.add_argument("--frames", type=positive, default=FRAMES, help="of each variant (default %(default)s)")
    parser.add_argument("--per-task", type=positive, default=PER_TASK, help="scenes (default %(default)s)")
    parser.add_argument("--set", choices=("mt10", "mt50"), default="mt10")
    parser.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=[variant.name for variant in VARIANTS], help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
