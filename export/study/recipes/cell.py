"""One cell: a recipe trained, its policy packed in int8 and played. A killed one goes on.

python -m export.study.recipes.cell CELL --data DATA --other DATA --work WORK --frames N --pairs N
"""

from __future__ import annotations

import argparse
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgevla.control.realtime import die_with_parent
from edgevla.errors import EdgevlaError
from export.data.ours import OurData
from export.distill.opening import open_data
from export.structures.train import run_recipe, vocabulary
from export.study.cells import KINDS, Kind, fitted
from export.study.play import POLICY, RESULT, identity, keep, kept, played
from export.study.recipes.cells import Cell, cells, recipe_of
from export.study.train import count

KIND: Kind = KINDS[1]  # one-step continuous: on the plain tasks a history has little to tell


def policy_of(words: int) -> dict[str, Any]:
    """The policy of all recipes: of as many parameters as a cell of the study of structures."""
    told = fitted(KIND, words, count).to_dict()
    return {key: value for key, value in told.items() if key not in ("pictures", "state", "actions")}


def run_cell(cell: Cell, where: Path, other: str, work: Path, frames: int, pairs: int, loud: bool) -> dict[str, Any]:
    """All steps of a cell; what stands in its folder is not done again. Raises BadInput: unusable data."""
    folder = work / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    own, theirs = OurData(where), open_data(other, folder / "other", None, loud)
    same = {**identity(frames, pairs, own), "other": theirs.sha256}
    if (found := kept(folder, same)) is not None:
        return found
    started = time.monotonic()
    recipe = recipe_of(cell, policy_of(len(vocabulary([own, theirs]))), str(where), other, frames)
    teacher = run_recipe(recipe, folder / POLICY, loud)
    outcomes = played(folder, where, own, pairs, cell.seed)
    result = {
        "cell": asdict(cell), "parameters": count(teacher.policy), **same, "wall_s": time.monotonic() - started,
        "success": [bool(outcome.success) for outcome in outcomes], "ticks": [outcome.ticks for outcome in outcomes],
    }  # fmt: skip
    keep(folder / RESULT, result)
    return result


def main() -> None:
    """Command line; called by `export.study.recipes` once for each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--other", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--parent", type=int, default=0)
    asked = parser.parse_args()
    if asked.parent:
        die_with_parent(asked.parent, signal.SIGKILL)
    torch.set_num_threads(1)
    cell = next(cell for cell in cells(100) if cell.name == asked.cell)
    try:
        run_cell(cell, asked.data, asked.other, asked.work, asked.frames, asked.pairs, loud=True)
    except EdgevlaError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
