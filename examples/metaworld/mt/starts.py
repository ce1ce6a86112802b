r"""Which z the policy of many tasks starts from: the teacher plays from candidates, and the best is written down.

    python -m examples.metaworld.mt.starts

A bundle carries one z, and a policy that always starts from the same one may be stuck where another is not. Candidates
are played on scenes that no other evaluation uses, in the fixed-latency loop; the one with most successes (then: the
fewest ticks) goes into the teacher's config.json, from where `edgevla compress` takes it. Stopped, it goes on when it
is called again. Results: out/SET/results/starts.json.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.cli.output import print_table
from edgevla.errors import BadInput, explain
from edgevla.sim.lockstep import Episode
from examples.arguments import positive
from examples.ended import ended
from examples.metaworld.evidence import WORKERS
from examples.metaworld.mt.command import host_of, out_of
from examples.metaworld.mt.episodes import practice
from examples.metaworld.mt.evaluate import OUTCOMES
from examples.metaworld.mt.packed import packed
from examples.metaworld.mt.tasks import SETS, tasks
from export.distill.progress import Reporter
from export.evidence.outcomes import Row, play_recorded, read_rows
from export.evidence.rollouts import PolicySpec

SCHEMA = "edgevla.mt.starts/1"
RESULT = "starts.json"
Start = tuple[int, float]  # seed and scale of z


@dataclass(frozen=True)
class Plan:
    """Which z are played, on which scenes. Scale 0 is z = 0."""

    episodes: Sequence[Episode]
    starts: Sequence[Start] = ((0, 0.0), *((seed, 1.0) for seed in range(8)))


def play_starts(plan: Plan, bundle: Path, teacher: Path, outcomes: Path) -> dict[Start, list[Row]]:
    """The rows of every candidate; what stands in `outcomes` is not played again."""
    reporter, rows = Reporter("episodes", len(plan.starts) * len(plan.episodes)), dict[Start, list[Row]]()

    def shown(count: int) -> None:
        reporter.show(len(rows) * len(plan.episodes) + count, "")

    for start in plan.starts:
        spec = PolicySpec("teacher", bundle, teacher, noise=start)
        rows[start] = play_recorded(spec, plan.episodes, outcomes, WORKERS, shown)
    reporter.close()
    return rows


def result_of(rows: dict[Start, list[Row]]) -> dict[str, Any]:
    """Successes of each start, in all and per task, and the chosen one."""
    table: list[dict[str, Any]] = [
        {
            "seed": seed,
            "scale": scale,
            "policy": played[0].policy,
            "episodes": len(played),
            "successes": sum(row.success for row in played),
            "ticks": sum(row.ticks for row in played),
            "per_task": _per_task(played),
        }
        for (seed, scale), played in rows.items()
    ]
    best = max(table, key=lambda row: (row["successes"], -row["ticks"]))
    return {"rows": table, "chosen": {"seed": best["seed"], "scale": best["scale"]}}


def _per_task(rows: Sequence[Row]) -> dict[str, int]:
    names = dict.fromkeys(row.episode.task for row in rows)
    return {name: sum(row.success for row in rows if row.episode.task == name) for name in names}


def recounted(folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """The same from the outcomes in `folder`; which z a policy started from is taken from what is told."""
    played = read_rows(folder / OUTCOMES / "starts.parquet")
    starts = {row["policy"]: (int(row["seed"]), float(row["scale"])) for row in told["rows"]}
    return result_of({start: [row for row in played if row.policy == name] for name, start in starts.items()})


def write_choice(teacher: Path, found: dict[str, Any]) -> None:
    """Into the teacher's config.json, whole or not at all."""
    path, best = teacher / "config.json", found["chosen"]
    config = json.loads(path.read_text(encoding="utf-8"))
    (row,) = (row for row in found["rows"] if (row["seed"], row["scale"]) == (best["seed"], best["scale"]))
    counts = {"chosen_from": len(found["rows"]), "episodes_each": row["episodes"], "successes": row["successes"]}
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**config, "noise": {**best, **counts}}, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def _work(given: argparse.Namespace) -> None:
    ours = Path("out") / given.set
    teacher, data, work = given.teacher or ours / "teacher", given.data or ours / "data", given.work or ours / "starts"
    for name, folder, file in (("teacher", teacher, "config.json"), ("data", data, "dataset.json")):
        if not (folder / file).is_file():
            raise BadInput(explain(f"--{name}", f"a folder with {file}", str(folder), "see --help"))
    plan = Plan(practice(tasks(given.set), given.per_task))
    bundle = packed(teacher, data, work)
    out = out_of(given)
    outcomes = out / OUTCOMES / "starts.parquet"
    there = _rows_in(outcomes)
    found = result_of(play_starts(plan, bundle, teacher, outcomes))
    host = host_of(out / RESULT, _rows_in(outcomes) > there)
    write_json(out / RESULT, {"schema": SCHEMA, "set": given.set, "host": host, **found})
    write_choice(teacher, found)
    if given.json:
        print(json.dumps(found))
        return
    shown = [(row["seed"], f"{row['scale']:g}", f"{row['successes']} of {row['episodes']}") for row in found["rows"]]
    print_table("successes of the teacher", ("seed of z", "scale", "successes"), shown)
    print(f"chosen: seed {found['chosen']['seed']}, scale {found['chosen']['scale']:g}; wrote {teacher}/config.json")


def _rows_in(outcomes: Path) -> int:
    return len(read_rows(outcomes)) if outcomes.exists() else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("teacher", "data"):
        parser.add_argument(f"--{name}", type=Path, help=f"folder (default out/SET/{name})")
    parser.add_argument("--set", choices=SETS, default="mt10", help="of tasks (default %(default)s)")
    parser.add_argument("--work", type=Path, help="folder (default out/SET/starts)")
    parser.add_argument("--per-task", type=positive, default=20, help="scenes (default %(default)s)")
    parser.add_argument("-o", "--out", type=Path, help="folder (default out/SET/results)")
    parser.add_argument("--json", action="store_true")
    return ended(_work, parser, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
