r"""The committed evidence of the reference policy; stop it at any time and start it again.

    python -m examples.metaworld.evidence --bundle out/demo/student.bundle --teacher examples/metaworld/teacher \
        --demos-only out/demos-only.bundle --without-z out/without-z.bundle --blank out/blank-teacher

Plays, on fresh scenes with sentences that training never saw:
1. the teacher as its authors would run it (fresh noise at every inference), 50 scenes a task;
2. both instructions of a mechanism from the same half-way scenes: teacher, int8, and the teacher trained without words;
3. teacher against int8 on the same seeds, group-sequentially, up to the last look declared in `DESIGN`;
4. the two controls of the distillation (same budget): on demonstrations alone, and without the noise as an input.
Raw outcomes (CSV) and `evidence.json` go to bench/results/metaworld.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from bench.paired import Design, Verdict, count_pairs, sequential_verdict
from edgevla.sim.lockstep import Episode
from edgevla.sim.metaworld import TASKS
from edgevla.telemetry.host import describe_host
from examples.metaworld.compare import halfway_rows
from examples.metaworld.episodes import half_way, paired
from export.distill.progress import Reporter
from export.evidence.outcomes import Row, play_recorded, share
from export.evidence.rollouts import PolicySpec

# Declared before the first look; multiples of the six tasks. One-sided alpha 0.05, O'Brien-Fleming spending.
DESIGN = Design(margin=0.03, alpha=0.05, looks=(246, 498, 750, 996))
TEACHER_PER_TASK = 50
HALF_WAY_PER_INSTRUCTION = 50
CONTROL_PER_TASK = 40
SEQUENTIAL_FIRST = 1_000  # its scenes are others than those of the demo and of the teacher's own count
WORKERS = len(os.sched_getaffinity(0))


class Player:
    """Plays and records under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def play(self, name: str, spec: PolicySpec, episodes: list[Episode]) -> list[Row]:
        reporter = Reporter(name, len(episodes))
        rows = play_recorded(spec, episodes, self._folder / f"{name}.csv", WORKERS, reporter.show)
        reporter.close()
        print(f"{name}: {sum(row.success for row in rows)} of {len(rows)}", flush=True)
        return rows


def sequential(player: Player, bundle: Path, teacher: Path) -> Verdict:
    """Teacher against int8, look by look, until the boundary is crossed or the looks are used up."""
    looks = []
    for pairs in DESIGN.looks:
        episodes = paired(pairs // len(TASKS), SEQUENTIAL_FIRST)
        reference = player.play("sequential-teacher", PolicySpec("teacher", bundle, teacher), episodes)
        candidate = player.play("sequential-int8", PolicySpec("int8", bundle), episodes)
        looks.append(count_pairs([row.success for row in reference], [row.success for row in candidate]))
        verdict = sequential_verdict(DESIGN, looks)
        print(verdict.as_dict(), flush=True)
        if verdict.decision == "non-inferior":
            break
    return verdict


def half_way_all(player: Player, arguments: argparse.Namespace) -> dict[str, list[Row]]:
    """Half-way scenes with the teacher, the bundle and the teacher that never saw words."""
    episodes = half_way(HALF_WAY_PER_INSTRUCTION)
    bundle = arguments.bundle
    rows = {
        "teacher": player.play("half-way-teacher", PolicySpec("teacher-noise", bundle, arguments.teacher), episodes),
        "student_int8": player.play("half-way-int8", PolicySpec("int8", bundle), episodes),
    }
    if arguments.blank:
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
        if bundle
    }
    return {name: share(rows) for name, rows in played.items()}


def per_task(rows: list[Row]) -> dict[str, float]:
    """Share of successes per task."""
    return {task: share([row for row in rows if row.episode.task == task]) for task in TASKS}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--demos-only", type=Path, help="bundle of the student trained on demonstrations alone")
    parser.add_argument("--without-z", type=Path, help="bundle of the student that does not see the noise")
    parser.add_argument("--blank", type=Path, help="folder of the teacher trained without words")
    parser.add_argument("-o", "--out", type=Path, default=Path("bench/results/metaworld"))
    arguments = parser.parse_args()
    player = Player(arguments.out / "outcomes")
    spec = PolicySpec("teacher-noise", arguments.bundle, arguments.teacher)
    fresh = player.play("teacher", spec, paired(TEACHER_PER_TASK))
    halves = half_way_all(player, arguments)
    verdict = sequential(player, arguments.bundle, arguments.teacher)
    shares = controls(player, arguments)
    evidence = {
        "success": {
            "teacher_fresh": {"mean": share(fresh), "per_task": per_task(fresh), "episodes": len(fresh)},
            **{f"halfway_{name.split('_')[-1]}": share(rows) for name, rows in halves.items() if "blank" not in name},
            "blank_words": share(halves["blank words"]) if "blank words" in halves else None,
            **shares,
        },
        "control_episodes": CONTROL_PER_TASK * len(TASKS),
        "sequential": verdict.as_dict(),
        "halfway": halfway_rows(halves),
        "bundle": _identity(arguments.bundle),
        "host": describe_host(),
    }
    path = arguments.out / "evidence.json"
    path.write_text(json.dumps(evidence, indent=1) + "\n")
    print(f"wrote {path}")


def _identity(bundle: Path) -> dict[str, Any]:
    manifest = json.loads((bundle / "manifest.json").read_text())
    return {key: manifest[key] for key in ("teacher", "student", "recipe")}


if __name__ == "__main__":
    main()
