"""Which structure, and what it costs: the same backbone, parameters and frames, on the same episodes.

    python -m export.study --data out/demo/data --out bench/results/structures.json

One process for each core, each cell resumable; stopped, it goes on when it is called again. Default is the reduced
study: one seed, about an hour on two cores, no ranking. --full: three seeds and 300 episodes (a night).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.cli.output import print_table
from edgevla.errors import BadInput, EdgevlaError, explain
from edgevla.telemetry.host import describe_host, host_line
from export.data.ours import OurData
from export.study.cells import PARAMETERS, Cell, cells
from export.study.growth import growth
from export.study.measure import latencies, resident_mb
from export.study.report import COLUMNS, FULL_PAIRS, FULL_SEEDS, SCHEMA, conclusions, rows_of, table
from export.study.train import RESULT, require_same

REDUCED = {"seeds": 1, "frames": 240_000, "pairs": 120}
FULL = {"seeds": FULL_SEEDS, "frames": 960_000, "pairs": FULL_PAIRS}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


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

    def command(self, cell: Cell) -> list[str]:
        return [
            sys.executable, "-m", "export.study.train", cell.name, "--data", str(self.data), "--work", str(self.work),
            "--frames", str(self.frames), "--pairs", str(self.pairs), "--parent", str(os.getpid()),
        ]  # fmt: skip


def run(asked: Asked) -> None:
    """Every cell that is not done, `workers` at a time. Raises BadInput: one failed; its log is named."""
    there = [asked.work / cell.name / RESULT for cell in asked.cells]
    sha256 = OurData(asked.data).sha256
    for path in filter(Path.is_file, there):
        require_same(json.loads(path.read_text()), asked.frames, asked.pairs, sha256, path.parent)
    waiting = [cell for cell, path in zip(asked.cells, there, strict=True) if not path.is_file()]
    begun, done, running = time.monotonic(), 0, {}  # type: float, int, dict[str, subprocess.Popen[bytes]]
    total = len(waiting)
    while waiting or running:
        while waiting and len(running) < asked.workers:
            cell = waiting.pop(0)
            folder = asked.work / cell.name
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "output.log").open("ab") as log:
                running[cell.name] = subprocess.Popen(
                    asked.command(cell), stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **ONE_THREAD}
                )
        time.sleep(0.5)
        for name, process in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            if process.returncode:
                for other in running.values():
                    other.terminate()
                log_path = asked.work / name / "output.log"
                raise BadInput(explain(f"cell {name}", "exit 0", f"exit {process.returncode}", f"see {log_path}"))
            done += 1
            left_s = (time.monotonic() - begun) / done * (total - done)
            print(f"{name} is done: {done} of {total}, about {left_s / 60:.0f} min left", file=sys.stderr, flush=True)


def summary(asked: Asked) -> dict[str, Any]:
    """All results, what they cost, and what may be concluded."""
    results = [json.loads((asked.work / cell.name / RESULT).read_text()) for cell in asked.cells]
    bundles = {cell.kind.name: asked.work / cell.name / "policy.bundle" for cell in reversed(asked.cells)}
    costs = {name: {**found, "rss_mb": resident_mb(bundles[name])} for name, found in latencies(bundles).items()}
    rows = rows_of(results, costs)
    return {
        "schema": SCHEMA,
        "what": f"structures of {PARAMETERS:,} parameters, {asked.frames:,} encoder frames each, int8, in the loop",
        "rows": rows,
        "conclusions": conclusions(rows),
        "growth": growth(),
        "raw": [{key: r[key] for key in ("cell", "success", "ticks", "train_s", "wall_s")} for r in results],
        "host": describe_host(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("out/demo/data"), help="demonstrations (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("out/study"), help="cells, kept (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/structures.json"), help="default %(default)s")
    parser.add_argument("--full", action="store_true", help="three seeds, more frames, 300 episodes")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--frames", type=int, help="of each cell")
    parser.add_argument("--pairs", type=int, help="episodes of each cell")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    sizes = {**(FULL if given.full else REDUCED)}
    sizes |= {key: getattr(given, key) for key in sizes if getattr(given, key) is not None}
    try:
        if not (given.data / "dataset.json").is_file():
            todo = "make demo, or python -m examples.metaworld.demos -o DIR"
            raise BadInput(explain("--data", "demonstrations with dataset.json", str(given.data), todo))
        asked = Asked(given.data, given.work, workers=given.workers, **sizes)
        run(asked)
        found = summary(asked)
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    given.out.parent.mkdir(parents=True, exist_ok=True)
    part = given.out.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(part, given.out)
    if given.json:
        print(json.dumps(found))
        return
    print_table("structures", COLUMNS, table(found["rows"]))
    for sentence in found["conclusions"]:
        print(sentence)
    print(host_line(found["host"]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
