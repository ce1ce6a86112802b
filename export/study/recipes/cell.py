"""One cell: a recipe trained, its policy packed in int8 and played. A killed one goes on.

python -m export.study.recipes.cell CELL --data DATA --other DATA --work WORK --frames N --pairs N
"""

from __future__ import annotations

import argparse
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgevla.control.realtime import die_with_parent
from edgevla.errors import BadInput, EdgevlaError, explain
from export.data.ours import OurData
from export.distill.opening import open_data
from export.structures.train import run_recipe, short, vocabulary
from export.study.asked import SEEDS
from export.study.cells import KINDS, Kind, fitted
from export.study.play import POLICY, claim, is_played, keep, played, read, result_of
from export.study.recipes.cells import Cell, cells, recipe_of
from export.study.train import count

KIND: Kind = KINDS[1]  # one-step continuous: on the plain tasks a history has little to tell


def policy_of(words: int) -> dict[str, Any]:
    """The policy of all recipes: of as many parameters as a cell of the study of structures."""
    told = fitted(KIND, words, count).to_dict()
    return {key: value for key, value in told.items() if key not in ("pictures", "state", "actions")}


def decoded_of(work: Path, other: Path | str) -> Path:
    """Where the frames of the other robot's videos are kept, once for all cells."""
    return work / "decoded" / f"data-{short(str(other))}"


def run_cell(cell: Cell, where: Path, other: str, work: Path, frames: int, pairs: int, loud: bool) -> dict[str, Any]:
    """All steps of a cell; what stands in its folder is not done again. Raises BadInput: unusable data."""
    folder, done = work / cell.name, result_of(work / cell.name, pairs)
    own, theirs = OurData(where), open_data(other, decoded_of(work, other), None, loud)
    claim(folder, {"frames": frames, "data": own.sha256, "other": theirs.sha256})
    if is_played(done):
        return read(done)
    words = vocabulary([own, theirs])  # the same for every recipe, whether it hears the other robot or not
    recipe = recipe_of(cell, policy_of(len(words)), str(where), other, frames)
    teacher, train_s = run_recipe(recipe, folder / POLICY, loud, work / "decoded", words)
    outcomes = played(folder, where, own, pairs, cell.seed)
    result = {
        "cell": asdict(cell), "parameters": count(teacher.policy), "frames": frames, "asked": pairs,
        "train_s": train_s, **outcomes,
    }  # fmt: skip
    keep(done, result)
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
    found = {cell.name: cell for cell in cells(SEEDS)}
    try:
        if (cell := found.get(asked.cell)) is None:
            names, todo = ", ".join(one.name for one in cells(1)), "the number at the end is the seed"
            raise BadInput(explain("cell", names, asked.cell, todo))
        run_cell(cell, asked.data, asked.other, asked.work, asked.frames, asked.pairs, loud=True)
    except EdgevlaError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
