"""Plays candidates for the fixed noise z on scenes of their own and writes the best into the teacher's config.

python -m examples.metaworld.choose_noise examples/metaworld/teacher
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from examples.metaworld.episodes import half_way, paired
from export.evidence.rollouts import PolicySpec, play_all

CANDIDATES = tuple((seed, scale) for scale in (0.5, 0.25) for seed in range(3))
FIRST_SCENE = 50_000  # no other evaluation uses these
WORKERS = len(os.sched_getaffinity(0))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--per-task", type=int, default=5, help="scenes, full and half-way each")
    arguments = parser.parse_args()
    episodes = paired(arguments.per_task, FIRST_SCENE) + half_way(arguments.per_task, FIRST_SCENE)
    scores: dict[tuple[int, float], tuple[int, int]] = {}
    for candidate in CANDIDATES:
        outcomes = play_all(PolicySpec("teacher", teacher=arguments.teacher, noise=candidate), episodes, WORKERS)
        # most successes, then fewest ticks
        scores[candidate] = (sum(o.success for o in outcomes), -sum(o.ticks for o in outcomes))
        print(f"seed {candidate[0]} scale {candidate[1]:g}: {scores[candidate][0]} of {len(episodes)}", flush=True)
    seed, scale = max(scores, key=lambda c: scores[c])
    path = arguments.teacher / "config.json"
    config = json.loads(path.read_text())
    config["noise"] = {
        "seed": seed,
        "scale": scale,
        "chosen_from": len(CANDIDATES),
        "episodes_each": len(episodes),
        "successes": scores[seed, scale][0],
    }
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(config, indent=1) + "\n")
    os.replace(temporary, path)
    print(f"wrote seed {seed}, scale {scale:g} into {path.name}")


if __name__ == "__main__":
    main()
