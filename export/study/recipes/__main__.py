"""Does another robot's data help? Three recipes at as many frames of the own robot, on the same episodes.

    python -m examples.so101.demos -o out/so101
    python -m export.study.recipes --data out/demo/data --other out/so101

One process for each core, each cell resumable; stopped, it goes on when it is called again.
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
from edgevla.errors import BadInput, EdgevlaError, explain
from edgevla.telemetry.host import describe_host
from export.data.ours import OurData
from export.distill.alone import alone
from export.distill.opening import open_data
from export.study.asked import add_options, require_sound, tell
from export.study.play import claim, is_played, keep, read, result_of
from export.study.pool import Job, run_all
from export.study.recipes.cell import KIND, decoded_of
from export.study.recipes.cells import Cell, cells
from export.study.recipes.report import COLUMNS, SCHEMA, conclusions, rows_of, table
from export.study.report import FULL_SEEDS

FRAMES, PAIRS = 128_000, 120


@dataclass(frozen=True)
class Asked:
    """One comparison."""

    data: Path
    other: Path
    work: Path
    seeds: int
    frames: int
    pairs: int
    workers: int

    @property
    def cells(self) -> list[Cell]:
        return cells(self.seeds)

    def job(self, cell: Cell) -> Job:
        given = ("--data", str(self.data), "--other", str(self.other), "--work", str(self.work))
        sizes = ("--frames", str(self.frames), "--pairs", str(self.pairs))
        return Job(self.work / cell.name, ("-m", "export.study.recipes.cell", cell.name, *given, *sizes))


def run(asked: Asked) -> None:
    """Every cell that is not done. Raises BadInput: one failed, or one that is there is of other data."""
    theirs = open_data(str(asked.other), decoded_of(asked.work, asked.other))
    of = {"frames": asked.frames, "data": OurData(asked.data).sha256, "other": theirs.sha256}
    for cell in asked.cells:
        claim(asked.work / cell.name, of)
    missing = [cell for cell in asked.cells if not is_played(result_of(asked.work / cell.name, asked.pairs))]
    run_all([asked.job(cell) for cell in missing], asked.workers)


def summary(asked: Asked) -> dict[str, Any]:
    """All results and what may be concluded."""
    results = [read(result_of(asked.work / cell.name, asked.pairs)) for cell in asked.cells]
    rows = rows_of(results)
    what = (
        f"{KIND.name}, {results[0]['parameters']:,} parameters, {asked.frames:,} encoder frames of the own robot and "
        f"{asked.frames // 2:,} of the other, int8, in the loop"
    )
    raw = [{key: r[key] for key in ("cell", "success", "ticks", "train_s", "played_s")} for r in results]
    return {
        "schema": SCHEMA, "what": what, "rows": rows, "conclusions": conclusions(rows), "raw": raw,
        "host": describe_host(),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "out/recipes", "out/recipes.json")
    parser.add_argument("--other", type=Path, default=Path("out/so101"), help="other robot (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=FULL_SEEDS, help="default %(default)s")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the own robot (default %(default)s)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="episodes of each cell (default %(default)s)")
    given = parser.parse_args(arguments)
    try:
        require_sound(given.seeds, given.frames, given.pairs, given.workers, given.data)
        if not given.other.is_dir():
            todo = f"python -m examples.so101.demos -o {given.other}"
            raise BadInput(explain("--other", "a data set of another robot", str(given.other), todo))
        asked = Asked(given.data, given.other, given.work, given.seeds, given.frames, given.pairs, given.workers)
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
    print_table("recipes", COLUMNS, table(found["rows"]))
    tell(found, given.out)


if __name__ == "__main__":
    main()
