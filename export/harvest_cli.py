"""`edgevla harvest`: flight records to a LeRobot dataset, so that field data feeds the next distillation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from edgevla.cli.output import JSON_OPTION, print_json, say
from edgevla.errors import BadInput, Usage, explain
from edgevla.flight.reader import read_record
from export.data.flights import OBSERVATION, TICK, Harvest
from export.data.flights import harvest as write
from export.extras import library

_FILES = typer.Argument(..., metavar="FILE...", help="flight.mcap files, or folders of --record")
_OUT = typer.Option(..., "-o", "--out", metavar="DIR", help="The dataset, a folder that is not there yet")


def harvest(
    files: list[Path] = _FILES,
    out: Path = _OUT,
    rows: str = typer.Option(TICK, metavar="tick|observation", help="One row per control tick, or per observation"),
    lossless: bool = typer.Option(False, "--lossless", help="Pictures as PNG in the rows instead of AV1 video"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Turn flight records into a LeRobot v3 dataset: state, commanded action, pictures, instruction.

    Rows at every control tick have the bundle's period, as `compress` needs it; their pictures are those of the newest
    observation, less than r ticks old. With --rows observation each row is one observation, its action spans r ticks.

    Example: edgevla harvest out/monday/flight.mcap out/tuesday/flight.mcap -o out/field
    """
    if rows not in (TICK, OBSERVATION):
        raise Usage(explain("--rows", f"{TICK} or {OBSERVATION}", rows, "pass one of them"))
    library("pyarrow.parquet", "data")
    records = [read_record(file) for file in files]
    for file, record in zip(files, records, strict=True):
        if record.damage:
            todo = "copy the file again, or leave it out"
            raise BadInput(explain(f"flight record {file}", "whole chunks", "; ".join(record.damage), todo))
    done = write(files, records, out, rows, video=not lossless)
    if as_json:
        print_json({"dataset": str(out), **asdict(done)})
        return
    for line in _said(done):
        say(line)
    say(f"dataset in {out}", "green")


def _said(done: Harvest) -> list[str]:
    r = done.replan_ticks
    if done.rows_at == TICK:
        rate = f"{done.fps} rows a second, one per control tick; pictures are new every {r} ticks and held between"
    else:
        rate = f"{done.fps} rows a second, one per observation; an action spans the {r} ticks that follow it"
    left = f", {done.too_short} stretches of one row left out" if done.too_short else ""
    return [
        f"{done.rows} rows in {done.episodes} episodes, from {done.ticks_recorded} recorded ticks{left}",
        rate,
        "an episode ends at every gap: other phase than TRACK, lost tick or observation, new instruction",
    ]
