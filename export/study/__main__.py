"""Which structure, and what it costs: the same backbone, parameters and frames, on the same episodes.

    python -m export.study --data out/demo/data --out bench/results/structures-run.json

One process for each core, each cell resumable; stopped, it goes on when it is called again. Default is the reduced
study: one seed, about an hour on two cores, no ranking. --full goes on from it: three seeds, 300 episodes (4.5 hours).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.cli.output import print_table
from edgevla.errors import EdgevlaError
from edgevla.telemetry.host import describe_host
from export.data.ours import OurData
from export.distill.alone import alone
from export.study.asked import add_options, require_sound, tell
from export.study.cells import PARAMETERS, Cell, cells
from export.study.growth import growth
from export.study.measure import latencies, resident_mb
from export.study.play import BUNDLE, claim, is_played, keep, read, result_of
from export.study.pool import Job, run_all
from export.study.report import COLUMNS, FULL_PAIRS, FULL_SEEDS, SCHEMA, conclusions, rows_of, table

REDUCED = {"seeds": 1, "frames": 128_000, "pairs": 60}
FULL = {"seeds": FULL_SEEDS, "frames": 128_000, "pairs": FULL_PAIRS}


@dataclass(frozen=True)
class Asked:
    """One study."""

    data: Path
    work: Path
    seeds: int
    frames: int
    pairs: int
    workers: int

    @property
    def cells(self) -> list[Cell]:
        return cells(self.seeds)

    def job(self, cell: Cell) -> Job:
        given = ("--data", str(self.data), "--work", str(self.work))
        sizes = ("--frames", str(self.frames), "--pairs", str(self.pairs))
        return Job(self.work / cell.name, ("-m", "export.study.train", cell.name, *given, *sizes))


def run(asked: Asked) -> None:
    """Every cell that is not done. Raises BadInput: one failed, or one that is there is of another study."""
    of = {"frames": asked.frames, "data": OurData(asked.data).sha256}
    for cell in asked.cells:
        claim(asked.work / cell.name, of)
    missing = [cell for cell in asked.cells if not is_played(result_of(asked.work / cell.name, asked.pairs))]
    run_all([asked.job(cell) for cell in missing], asked.workers)


def summary(asked: Asked) -> dict[str, Any]:
    """All results, what they cost, and what may be concluded."""
    results = [read(result_of(asked.work / cell.name, asked.pairs)) for cell in asked.cells]
    bundles = {cell.kind.name: asked.work / cell.name / BUNDLE for cell in reversed(asked.cells)}
    costs = {name: {**found, "rss_mb": resident_mb(bundles[name])} for name, found in latencies(bundles).items()}
    rows = rows_of(results, costs)
    return {
        "schema": SCHEMA,
        "what": f"structures of {PARAMETERS:,} parameters, {asked.frames:,} encoder frames each, int8, in the loop",
        "rows": rows,
        "conclusions": conclusions(rows),
        "growth": growth(),
        "raw": [{key: r[key] for key in ("cell", "success", "ticks", "train_s", "played_s")} for r in results],
        "host": describe_host(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "out/study", "out/structures-run.json")
    parser.add_argument("--full", action="store_true", help="three seeds, 300 episodes")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--frames", type=int, help="of each cell")
    parser.add_argument("--pairs", type=int, help="episodes of each cell")
    given = parser.parse_args(arguments)
    sizes = {**(FULL if given.full else REDUCED)}
    sizes |= {key: getattr(given, key) for key in sizes if getattr(given, key) is not None}
    try:
        require_sound(**sizes, workers=given.workers, data=given.data)
        asked = Asked(given.data, given.work, workers=given.workers, **sizes)
        with alone(asked.work):
            run(asked)
            found = summary(asked)
        keep(given.out, found)
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if given.json:
        print(json.dumps(found))
        return
    print_table("structures", COLUMNS, table(found["rows"]))
    tell(found, given.out)


if __name__ == "__main__":
    main()
