"""One cell: trained, packed in int8, played. Each step is kept when it is done; a killed one goes on.

python -m export.study.train CELL --data DATA --work WORK --frames N --pairs N
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
from export.distill.loop import Recipe as Settings
from export.structures.config import StructureConfig
from export.structures.recipe import BackboneAsk, Recipe, StageAsk
from export.structures.teacher import StructureTeacher
from export.structures.train import FRAMES_A_STEP, Robot, new_teacher, train_stage, vocabulary, whiten
from export.study.asked import SEEDS
from export.study.cells import MAX_TOKENS, VARIANTS, Cell, cells, fitted
from export.study.play import POLICY, claim, is_played, keep, played, read, result_of

LEARNING_RATE = 1e-3


def count(policy: torch.nn.Module) -> int:
    return sum(p.numel() for p in policy.parameters())


def train_cell(
    cell: Cell, data: OurData, where: Path, folder: Path, frames: int, loud: bool
) -> tuple[StructureTeacher, float]:
    """The trained policy, and the seconds of this process and those before it that went into it."""
    torch.manual_seed(cell.seed)
    words = vocabulary([data])
    stage = StageAsk(cell.name, str(where), frames, LEARNING_RATE, 0, VARIANTS[cell.variant])
    recipe = recipe_of(fitted(cell.kind, len(words), count), cell.seed, stage)
    teacher = new_teacher(recipe, data, words)
    settings = Settings(0.0, stage.learning_rate, ema=0.998, steps=frames // FRAMES_A_STEP)
    whiten(teacher, data, cell.seed)
    progress = train_stage([Robot(teacher, data)], recipe, stage, settings, folder, loud)
    return teacher.eval(), progress.elapsed_s


def recipe_of(config: StructureConfig, seed: int, stage: StageAsk) -> Recipe:
    """One stage, from scratch."""
    told = {key: value for key, value in config.to_dict().items() if key not in ("pictures", "state", "actions")}
    return Recipe(seed, told, MAX_TOKENS, BackboneAsk((96, 96), None, {}, (), 0), (stage,))


def run_cell(cell: Cell, data: OurData, where: Path, work: Path, frames: int, pairs: int, loud: bool) -> dict[str, Any]:
    """All steps of a cell; what stands in its folder is not done again."""
    folder, done = work / cell.name, result_of(work / cell.name, pairs)
    claim(folder, {"frames": frames, "data": data.sha256})
    if is_played(done):
        return read(done)
    teacher, train_s = train_cell(cell, data, where, folder, frames, loud)
    teacher.save(folder / POLICY)
    outcomes = played(folder, where, data, pairs, cell.seed, VARIANTS[cell.variant])
    result = {
        "cell": asdict(cell), "parameters": count(teacher.policy), "width": teacher.policy.config.width,
        "frames": frames, "asked": pairs, "train_s": train_s, **outcomes,
    }  # fmt: skip
    keep(done, result)
    return result


def cell_of(name: str) -> Cell:
    """Raises BadInput: there is none of that name."""
    found = {cell.name: cell for cell in cells(SEEDS)}
    if name not in found:
        todo = "the number at the end is the seed"
        raise BadInput(explain("cell", ", ".join(cell.name for cell in cells(1)), name, todo))
    return found[name]


def main() -> None:
    """Command line; called by `export.study` once for each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--parent", type=int, default=0)
    asked = parser.parse_args()
    if asked.parent:
        die_with_parent(asked.parent, signal.SIGKILL)
    torch.set_num_threads(1)
    try:
        cell = cell_of(asked.cell)
        run_cell(cell, OurData(asked.data), asked.data, asked.work, asked.frames, asked.pairs, loud=True)
    except EdgevlaError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
