r"""The committed evidence of the reference policy; stop it at any time and start it again.

    python -m examples.metaworld.evidence --bundle out/demo/student.bundle --teacher examples/metaworld/teacher \
        --demos-only out/demos-only.bundle --without-z out/without-z.bundle --blank out/blank-teacher

Plays, on fresh scenes with sentences that training never saw:
1. the teacher as its authors would run it (fresh noise at every inference), 50 scenes a task;
2. both instructions of a mechanism from the same half-way scenes: teacher, int8, and the teacher trained without words;
3. teacher against int8 on the same seeds, group-sequentially, up to the last look declared in `DESIGN`;
4. the two controls of the distillation (same budget): on demonstrations alone, and without the noise as an input.
Raw outcomes (parquet) and `evidence.json` go to bench/results/metaworld. `--ray` plays on a Ray cluster; `--recount`
plays nothing and computes evidence.json again from the outcomes that are there.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from edgevla.sim.lockstep import Episode
from edgevla.sim.metaworld import TASKS
from edgevla.telemetry.host import describe_host
from examples.metaworld.compare import halfway_rows
from examples.metaworld.episodes import half_way, paired
from export.distill.progress import Reporter
from export.evidence.outcomes import Row, play_recorded, recorded, share
from export.evidence.paired import Design, PairCounts, compare_counts, count_pairs, sequential_verdict
from export.evidence.rollouts import RAY_LOCAL, PolicySpec

# Declared before the first look; multiples of the six tasks. One-sided alpha 0.05, O'Brien-Fleming spending.
DESIGN = Design(margin=0.03, alpha=0.05, looks=(246, 498, 750, 996))
TEACHER_PER_TASK = 50
HALF_WAY_PER_INSTRUCTION = 50
CONTROL_PER_TASK = 40
SEQUENTIAL_FIRST = 1_000  # its scenes are others than those of the demo and of the teacher's own count
WORKERS = len(os.sched_getaffinity(0))


class Player:
    """Plays and records under one folder.

    Args:
        ray: see `export.evidence.rollouts.stream`.
        recount: take what the folder holds, whichever policy played it, and play nothing.
    """

    def __init__(self, folder: Path, ray: str | None = None, recount: bool = False) -> None:
        self._folder, self._ray, self._recount = folder, ray, recount
        self.policies: dict[str, str] = {}
        self.has_played = False  # this one, and not only found

    def play(self, name: str, spec: PolicySpec, episodes: list[Episode]) -> list[Row]:
        path = self._folder / f"{name}.parquet"
        rows = recorded(path, episodes) if self._recount else self._play(name, spec, episodes, path)
        self.policies[name] = rows[0].policy
        print(f"{name}: {sum(row.success for row in rows)} of {len(rows)}", flush=True)
        return rows

    def has(self, name: str) -> bool:
        """Whether a recount finds outcomes of that name."""
        return self._recount and (self._folder / f"{name}.parquet").exists()

    def _play(self, name: str, spec: PolicySpec, episodes: list[Episode], path: Path) -> list[Row]:
        reporter = Reporter(name, len(episodes))

        def show(done: int) -> None:
            self.has_played = True
            reporter.show(done)

        rows = play_recorded(spec, episodes, path, WORKERS, show, self._ray)
        reporter.close()
        return rows


def sequential(player: Player, bundle: Path, teacher: Path) -> dict[str, Any]:
    """Teacher against int8, look by look, until the boundary is crossed or the looks are used up."""
    looks: list[PairCounts] = []
    for pairs in DESIGN.looks:
        episodes = paired(pairs // len(TASKS), SEQUENTIAL_FIRST)
        reference = player.play("sequential-teacher", PolicySpec("teacher", bundle, teacher), episodes)
        candidate = player.play("sequential-int8", PolicySpec("int8", bundle), episodes)
        looks.append(count_pairs([row.success for row in reference], [row.success for row in candidate]))
        verdict = sequential_verdict(DESIGN, looks)
        print(verdict.as_dict(), flush=True)
        if verdict.decision == "non-inferior":
            break
    return {**verdict.as_dict(), "paired": compare_counts(looks[-1]).as_dict()}


def half_way_all(player: Player, arguments: argparse.Namespace) -> dict[str, list[Row]]:
    """Half-way scenes with the teacher, the bundle and the teacher that never saw words."""
    episodes = half_way(HALF_WAY_PER_INSTRUCTION)
    bundle = arguments.bundle
    rows = {
        "teacher": player.play("half-way-teacher", PolicySpec("teacher-noise", bundle, arguments.teacher), episodes),
        "student_int8": player.play("half-way-int8", PolicySpec("int8", bundle), episodes),
    }
    if arguments.blank or player.has("half-way-blank"):
        spec = PolicySpec("blank", bundle, arguments.blank)
        rows["blank words"] = player.play("half-way-blank", spec, episodes)
    return rows


def controls(player: Player, arguments: argparse.Namespace) -> dict[str, float]:
    """Success of the student and of its two controls on the same scenes."""
    episodes = paired(CONTROL_PER_TASK, 2 * SEQUENTIAL_FIRST)
    bundles = {"distilled": arguments.bundle, "demos_only": arguments.demos_only, "without_z": arguments.without_z}
    played = {
        name: player.play(f"control-{name.replace('_', '-')}", PolicySpec("int8", bundle), episodes)
        for name, bundle in bundles.items()
        if bundle or player.has(f"control-{name.replace('_', '-')}")
    }
    return {name: share(rows) for name, rows in played.items()}


def per_task(rows: list[Row]) -> dict[str, float]:
    """Share of successes per task."""
    return {task: share([row for row in rows if row.episode.task == task]) for task in TASKS}


def main() -> None:
    """Command line."""
    arguments = _arguments()
    path = arguments.out / "evidence.json"
    player = Player(arguments.out / "outcomes", arguments.ray, arguments.recount)
    evidence = measure(player, arguments)
    if arguments.recount:
        before = json.loads(path.read_text())
        evidence |= {key: before[key] for key in ("bundle", "host")}  # a recount measures nothing
    else:
        evidence |= {"bundle": _identity(arguments.bundle), "host": describe_host()}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(evidence, indent=1) + "\n")
    os.replace(temporary, path)
    print(f"wrote {path}")


def measure(player: Player, arguments: argparse.Namespace) -> dict[str, Any]:
    """evidence.json without bundle and host."""
    spec = PolicySpec("teacher-noise", arguments.bundle, arguments.teacher)
    fresh = player.play("teacher", spec, paired(TEACHER_PER_TASK))
    halves = half_way_all(player, arguments)
    verdict = sequential(player, arguments.bundle, arguments.teacher)
    shares = controls(player, arguments)
    return {
        "success": {
            "teacher_fresh": {"mean": share(fresh), "per_task": per_task(fresh), "episodes": len(fresh)},
            **{f"halfway_{name.split('_')[-1]}": share(rows) for name, rows in halves.items() if "blank" not in name},
            "blank_words": share(halves["blank words"]) if "blank words" in halves else None,
            **shares,
        },
        "control_episodes": CONTROL_PER_TASK * len(TASKS),
        "sequential": verdict,
        "halfway": halfway_rows(halves),
        "policies": player.policies,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--demos-only", type=Path, help="bundle of the student trained on demonstrations alone")
    parser.add_argument("--without-z", type=Path, help="bundle of the student that does not see the noise")
    parser.add_argument("--blank", type=Path, help="folder of the teacher trained without words")
    parser.add_argument("--ray", nargs="?", const=RAY_LOCAL, metavar="ADDRESS", help="default: one on this machine")
    parser.add_argument("--recount", action="store_true", help="from the outcomes that are there, playing nothing")
    parser.add_argument("-o", "--out", type=Path, default=Path("bench/results/metaworld"))
    arguments = parser.parse_args()
    if not arguments.recount and not (arguments.bundle and arguments.teacher):
        parser.error("--bundle and --teacher are needed, unless --recount")
    return arguments


def _identity(bundle: Path) -> dict[str, Any]:
    manifest = json.loads((bundle / "manifest.json").read_text())
    return {key: manifest[key] for key in ("teacher", "student", "recipe")}


if __name__ == "__main__":
    main()
