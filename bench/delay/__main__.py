r"""Success in Meta-World while the policy thinks for 0 to 8 ticks; stop it at any time and start it again.

    python -m bench.delay --bundle out/demo/student.bundle --episodes 120 --jobs 1 --out bench/results/delay.json

Ways: `bench.delay.ways`. Scenes: the six tasks, fresh seeds and held-out sentences, the same for every way and delay;
none that another result has used. Every episode is a row of OUT.parquet, from which `--recount` computes OUT again.
Success does not depend on timing: nothing else has to be quiet. About 0.3 s an episode on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bench.delay import journal
from bench.delay.journal import Cell, Key, Played
from bench.delay.table import ZERO, goal, summarise
from bench.delay.ways import BLENDED, WAYS, runner_of
from bench.seams.record import require_one_observation
from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput, EdgevlaError, Usage, explain
from edgevla.policy.blend import blend_ticks
from edgevla.sim.lockstep import Episode, Loop, Policy, play
from edgevla.sim.metaworld import TASKS, MetaworldPlant
from edgevla.telemetry.host import describe_host
from examples.metaworld.episodes import paired
from export.distill.progress import Reporter
from export.evidence.rollouts import PolicySpec
from export.spawned import spawned

FIRST_SCENE = 3_000  # scenes 0 .. 2,999 belong to the demo and the evidence of the reference policy
DELAYS = (4, 2, 8, 1, 6, 3, 5, 7)  # in this order, so that a run stopped early has the ones that matter
BATCH = 5  # episodes of one scene in a row; loading a scene costs 0.4 s


def cells_of(ways: Sequence[str], delays: Sequence[int]) -> list[Cell]:
    """Zero delay, then every way at every delay."""
    return [ZERO, *(Cell(way, delay) for delay in delays if delay for way in ways)]


Asked = tuple[Cell, Episode]


def policy_name(identity: str, cell: Cell, period_s: float) -> str:
    """What decides the answers of a cell; b where it counts."""
    return f"{identity}, b = {blend_ticks(period_s)}" if cell.way in BLENDED else identity


def key_of(identity: str, asked: Asked, period_s: float) -> Key:
    cell, episode = asked
    return policy_name(identity, cell, period_s), cell.way, cell.delay, episode.task, episode.seed


class Worker:
    """A process that has the policy open, and one loaded scene of every task it has met."""

    def __init__(self, spec: PolicySpec) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        warnings.filterwarnings("ignore")
        self._identity, self._policy, self._loop = spec.identity(), spec.open(), spec.loop()
        self._plants: dict[str, MetaworldPlant] = {}

    def play(self, batch: Sequence[Asked]) -> list[Played]:
        """The batch in its order."""
        return [self._one(cell, episode) for cell, episode in batch]

    def _one(self, cell: Cell, episode: Episode) -> Played:
        begun = time.monotonic()
        run = partial(_run, cell)
        outcome, plant = play(self._policy, episode, self._loop, self._plants.get(episode.task), run)
        self._plants[episode.task] = plant
        wall_s = round(time.monotonic() - begun, 3)
        key = key_of(self._identity, (cell, episode), self._loop.period_s)
        return Played(*key, outcome.success, outcome.ticks, outcome.inferences, wall_s)


def _run(cell: Cell, policy: Policy, plant: Any, loop: Loop) -> Any:
    return runner_of(cell.way, cell.delay, policy, plant, loop)


_worker: Worker | None = None


def _start(spec: PolicySpec) -> None:
    global _worker
    _worker = Worker(spec)


def _play(batch: Sequence[Asked]) -> list[Played]:
    if _worker is None:
        raise RuntimeError("worker without a policy: expected _start to have run")
    return _worker.play(batch)


def play_batches(spec: PolicySpec, todo: list[Asked], jobs: int) -> Iterator[list[Played]]:
    """Batches as they end, in order; in this process when one job is enough."""
    batches = [todo[i : i + BATCH] for i in range(0, len(todo), BATCH)]
    if jobs == 1:
        worker = Worker(spec)
        yield from map(worker.play, batches)
        return
    with spawned(jobs, _start, spec) as pool:
        yield from pool.map(_play, batches)


def play_missing(spec: PolicySpec, todo: list[Asked], jobs: int, path: Path) -> None:
    """Plays what is missing, each batch written down as it ends."""
    rows = journal.read(path)
    before = len(rows)
    reporter = Reporter("episodes", len(todo))
    for batch in play_batches(spec, todo, jobs):
        rows += batch
        journal.write(path, rows)
        done = len(rows) - before
        reporter.show(done, f"{batch[-1].way} at {batch[-1].delay} ticks, {done} of {len(todo)}")
    reporter.close()


def result(rows: Sequence[Played], loop: Loop, episodes: int, recount_of: Path | None = None) -> dict[str, Any]:
    """delay.json."""
    before = json.loads(recount_of.read_text()) if recount_of and recount_of.exists() else {}
    return {
        "command": f"python -m bench.delay --episodes {episodes}",
        "policy": rows[0].policy,
        "period_s": loop.period_s,
        "schedule": asdict(loop.schedule),
        "blend_ticks": blend_ticks(loop.period_s),
        "scenes": {"tasks": list(TASKS), "first": FIRST_SCENE, "per_task": episodes // len(TASKS)},
        "goal": goal(rows),
        "cells": summarise(rows),
        "host": before.get("host") or describe_host(),  # a recount measures nothing
    }


def show(found: dict[str, Any]) -> None:
    """The table on the terminal."""
    print(f"{'ticks':>5} {'way':8} {'success':>14} {'loss':>7}  {'95 % interval':>16} {'discordant':>10} {'slower':>7}")
    for cell in found["cells"]:
        pairs = cell.get("against_zero")
        share = f"{cell['successes']}/{cell['episodes']} {100 * cell['success']:5.1f}%"
        line = f"{cell['delay']:>5} {cell['way']:8} {share:>14}"
        if pairs:
            interval = f"{100 * pairs['loss_low95']:+.1f} .. {100 * pairs['loss_high95']:+.1f}"
            discordant = pairs["only_reference"] + pairs["only_candidate"]
            line += f" {100 * pairs['loss']:+6.1f}p  {interval:>16} {discordant:>10} {cell['slower_than_zero']:>6.2f}x"
        print(line)
    print("goal:", found["goal"])


def main() -> int:
    """Command line."""
    given = _arguments()
    try:
        measure(given)
    except EdgevlaError as error:
        print(f"error: {error}")
        return error.exit_code
    return 0


def measure(given: argparse.Namespace) -> None:
    """Plays what is missing and writes the result."""
    if given.episodes < 1 or given.episodes % len(TASKS):
        six = f"a multiple of {len(TASKS)}"
        raise Usage(explain("--episodes", six, given.episodes, "take one: every task the same number"))
    require_one_observation(open_bundle(given.bundle).manifest)  # some ways ask at other ticks than the loop does
    path, spec = given.out.with_suffix(".parquet"), PolicySpec("int8", given.bundle)
    episodes = paired(given.episodes // len(TASKS), FIRST_SCENE)
    identity, loop = spec.identity(), spec.loop()
    wanted = {
        key_of(identity, (cell, episode), loop.period_s): (cell, episode)
        for cell in cells_of(given.ways, given.delays)
        for episode in episodes
    }
    known = {row.key for row in journal.read(path)}
    todo = [asked for key, asked in wanted.items() if key not in known]
    print(f"{len(todo)} of {len(wanted)} episodes to play with {identity}, rows in {path}", flush=True)
    if todo and given.recount:
        hint = "leave out --recount, or ask for ways and delays that were played"
        raise BadInput(explain("episodes that were not played", "none", len(todo), hint))
    if todo:
        play_missing(spec, todo, given.jobs, path)
    rows = [row for row in journal.read(path) if row.key in wanted]
    found = result(rows, loop, given.episodes, given.out if given.recount else None)
    temporary = given.out.with_suffix(".part")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(temporary, given.out)
    show(found)
    print(f"wrote {given.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=120, help="of every way at every delay, a multiple of six")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--delays", nargs="+", type=int, choices=range(9), default=list(DELAYS), metavar="TICKS")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench/results/delay.json"))
    parser.add_argument("--recount", action="store_true", help="from the rows that are there, playing nothing")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
