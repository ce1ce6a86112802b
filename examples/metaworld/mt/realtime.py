r"""Pairs of `evaluate` once more, by the clock: int8 over the serial line of a virtual arm, against itself in lockstep.

    python -m examples.metaworld.mt.realtime --bundle out/mt10/student.bundle

Twelve scenes a task, the first ones of evaluate, whose lockstep outcomes have to be there; each is an `edgevla run` of
its own. Every run is kept and counted, one with late commands too. Stop it at any time and start it again:
realtime.json holds the runs so far. Timing counts here: let nothing else run beside it (some 20 minutes).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.files import write_json
from bench.loop.histogram import merged, of_ns, packed, quantile, unpacked
from edgevla.bundle.reader import open_bundle
from edgevla.control.ladder import MOVABLE
from edgevla.errors import DeviceFault, explain
from edgevla.flight.reader import read_record
from edgevla.sim.lockstep import Episode, Loop
from examples.ended import ended
from examples.metaworld.mt.command import host_of, out_of, parser_of, read_result, require_given, require_newest
from examples.metaworld.mt.episodes import fresh
from examples.metaworld.mt.evaluate import OUTCOMES, identity
from examples.metaworld.mt.tasks import MtTask, tasks
from export.distill.progress import Reporter
from export.evidence.outcomes import recorded
from export.evidence.paired import compare, count_pairs
from export.evidence.rollouts import PolicySpec, loop_of

SCHEMA = "edgevla.mt.realtime/1"
RESULT = "realtime.json"
ARM = "metaworld-sawyer"
DURATION_S = 7.0  # armed; the 500 ticks that count are 6.25 s
SUMS = ("ticks", "late_commands", "expired_commands", "misses", "release_misses")
Json = Mapping[str, Any]
Play = Callable[[Path, Episode, Path], None]  # bundle, episode, folder of the flight record


@dataclass(frozen=True)
class Plan:
    """What is run: the first scenes of every task."""

    tasks: tuple[MtTask, ...]
    scenes_per_task: int = 12

    @property
    def episodes(self) -> list[Episode]:
        return fresh(self.tasks, self.scenes_per_task)


def run_missing(plan: Plan, bundle: Path, out: Path, key: Json, play: Play) -> list[dict[str, Any]]:
    """All runs in the order of the plan; one that is not in realtime.json is made, and written down when it ends."""
    runs, loop = _runs_there(out / RESULT, key), loop_of(bundle)
    done = {(run["task"], run["seed"]) for run in runs}
    missing = [episode for episode in plan.episodes if (episode.task, episode.seed) not in done]
    reporter = Reporter("runs by the clock", len(missing))
    for number, episode in enumerate(missing, 1):
        with tempfile.TemporaryDirectory(prefix="edgevla-realtime-") as folder:
            record = Path(folder) / "run"
            play(bundle, episode, record)
            runs.append(figures_of(record, episode, loop))
        write_json(out / RESULT, {**key, "runs": runs})
        reporter.show(number, f"{episode.task}, {runs[-1]['stop_reason']}")
    reporter.close()
    wanted = {(episode.task, episode.seed): episode for episode in plan.episodes}
    return [run for run in runs if (run["task"], run["seed"]) in wanted]


def _runs_there(path: Path, key: Json) -> list[dict[str, Any]]:
    """Runs of the same policy that were made before; a file of another one is kept beside under its name."""
    if not path.exists():
        return []
    found = read_result(path, "policy", "runs")
    if found["policy"] == key["policy"]:
        return list(found["runs"])
    aside = path.with_stem(f"{path.stem}-{str(found['policy']).rpartition(' ')[2]}")
    path.replace(aside)
    print(f"{path.name} was of another policy, {found['policy']}: it is {aside.name} now", flush=True)
    return []


def edgevla_run(bundle: Path, episode: Episode, record: Path) -> None:
    """One run. Raises DeviceFault: it left no record."""
    where = ["--bundle", str(bundle), "--arm", ARM, "--sim", episode.task, "--seed", str(episode.seed)]
    what = ["--instruction", episode.instruction, "--duration-s", f"{DURATION_S:g}", "--best-effort", "--json"]
    command = [str(Path(sys.executable).parent / "edgevla"), "run", *where, *what, "--record", str(record)]
    ran = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if not (record / "run.json").is_file():
        got = f"exit code {ran.returncode}: {' '.join(ran.stderr.split())[-400:]}"
        raise DeviceFault(
            explain(f"{episode.task} seed {episode.seed}", "a run with its record", got, "run it by hand")
        )


def figures_of(record: Path, episode: Episode, loop: Loop) -> dict[str, Any]:
    """A run in figures. Its success counts within the ticks that an episode in lockstep has."""
    told = json.loads((record / "run.json").read_text(encoding="utf-8"))
    rows = read_record(record).ticks
    rows = rows[np.isin(rows["phase"], sorted(MOVABLE))]
    tick = told["success_tick"]
    return {
        "task": episode.task,
        "seed": episode.seed,
        "instruction": episode.instruction,
        "success": tick is not None and tick <= loop.max_ticks,
        "success_tick": tick,
        "stop_reason": told["stop_reason"],
        "exit_code": told["exit_code"],
        **{name: told["loop"][name] for name in SUMS if name != "release_misses"},
        "release_misses": told["chunks"]["release_misses"],
        "best_effort": bool(told["real_time"].get("missing")),
        "stolen_s": told["stolen_s"],
        "wake_us": packed(of_ns(rows["wake_ns"] - rows["deadline_ns"])),
    }


def summary(runs: Sequence[Json], lockstep: Sequence[bool]) -> dict[str, Any]:
    """Every figure that follows from the runs and from the success of the same episodes in lockstep, in that order."""
    live = [bool(run["success"]) for run in runs]
    names = list(dict.fromkeys(str(run["task"]) for run in runs))
    of_task = {name: [ok for ok, run in zip(live, runs, strict=True) if run["task"] == name] for name in names}
    counts, wake = count_pairs(lockstep, live), merged(unpacked(run["wake_us"]) for run in runs)
    return {
        "episodes": len(runs),
        "success": sum(live) / len(live),
        "per_task": {name: sum(found) / len(found) for name, found in of_task.items()},
        "paired": compare(lockstep, live).as_dict(),  # reference: lockstep, candidate: by the clock
        "same_outcome": counts.both + counts.neither,
        **{name: sum(run[name] for run in runs) for name in SUMS},
        "runs_with_late_commands": sum(run["late_commands"] > 0 for run in runs),
        "wake_p99_us": quantile(wake, 0.99),
        "wake_p999_us": quantile(wake, 0.999),
        "best_effort": any(run["best_effort"] for run in runs),
        "stolen_s": round(sum(run["stolen_s"] for run in runs), 3),
    }


def recounted(folder: Path) -> dict[str, Any]:
    """Every figure of realtime.json, again from its runs and FOLDER/outcomes. Raises BadInput: either is missing."""
    runs = read_result(folder / RESULT, "runs")["runs"]
    episodes = [Episode(run["task"], run["seed"], run["instruction"]) for run in runs]
    return summary(runs, [row.success for row in recorded(folder / OUTCOMES / "int8.parquet", episodes)])


def realtime(plan: Plan, which: str, bundle: Path, out: Path, play: Play = edgevla_run) -> dict[str, Any]:
    """Runs what is missing; realtime.json."""
    policy = PolicySpec("int8", bundle).identity()
    lockstep = recorded(out / OUTCOMES / "int8.parquet", plan.episodes)
    require_newest(out, {"int8": lockstep[0].policy}, {"int8": policy})
    key = {"schema": SCHEMA, "set": which, "policy": policy, "bundle": identity(open_bundle(bundle))}
    played = len(_runs_there(out / RESULT, key)) < len(plan.episodes)
    key["host"] = host_of(out / RESULT, played)
    runs = run_missing(plan, bundle, out, key, play)
    write_json(out / RESULT, {**key, "runs": runs})
    return {**key, "duration_s": DURATION_S, **recounted(out), "runs": runs}


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return ended(_work, parser_of(__doc__), given)


def _work(asked: argparse.Namespace) -> None:
    require_given(asked, "bundle")
    out = out_of(asked)
    found = realtime(Plan(tasks(asked.set)), asked.set, asked.bundle, out)
    write_json(out / RESULT, found)
    print(f"{100 * found['success']:.1f} % of {found['episodes']}, {found['same_outcome']} as in lockstep")
    print(f"{found['late_commands']} late commands, {found['misses']} misses, wake p99 {found['wake_p99_us']} us")
    print(f"wrote {out / RESULT}")


if __name__ == "__main__":
    raise SystemExit(main())
