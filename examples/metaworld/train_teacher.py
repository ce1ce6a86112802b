r"""Trains the reference teacher on recorded demonstrations; stop it at any time and start it again.

    torchrun --nproc_per_node 2 -m examples.metaworld.train_teacher \
        --data out/data -o examples/metaworld/teacher --budget 73m
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from export.budget import parse_duration_s
from export.compress import require_same_words
from export.distill.dataset import Batches, Demonstrations, Sampling, normalise_image
from export.distill.loop import Progress, Recipe, Run, train
from export.distill.parallel import join, leave
from export.students.layers import PatchStem
from export.teachers.folder import load_teacher, save_teacher
from export.teachers.reference import FlowObjective, FlowTeacher, TeacherConfig

MAX_TOKENS = 16
SNAPSHOT_S = 300.0


@dataclass(frozen=True)
class First:
    """What training starts from. statistics: mean and deviation of the state, None for those of the data."""

    model: FlowTeacher
    statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
    match: FlowTeacher | None = None


def first_model(
    config: TeacherConfig, data: Demonstrations, seed: int, initial: Path | None, match: Path | None
) -> First:
    """A teacher to train on (`initial`), one with a new stem that shall see like another (`match`), or a new one."""
    if initial:
        teacher = load_teacher(initial)
        require_same_words(teacher, data)
        return First(teacher.model, (teacher.state_mean, teacher.state_std))
    if not match:
        return First(FlowTeacher(config))
    teacher = load_teacher(match)
    require_same_words(teacher, data)
    model = FlowTeacher(replace(config, stem="patch"))
    kept = {name: value for name, value in teacher.model.state_dict().items() if not name.startswith("stem.")}
    model.load_state_dict(kept, strict=False)
    whiten(model, data, seed)
    return First(model, (teacher.state_mean, teacher.state_std), teacher.model)


def whiten(model: FlowTeacher, data: Demonstrations, seed: int) -> None:
    """Gives a new patch stem the statistics of the data's frames to start from."""
    if isinstance(model.stem, PatchStem):
        frames = np.random.default_rng(seed).integers(len(data), size=512)
        model.stem.whiten(normalise_image(torch.from_numpy(data.images(frames))))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, default=Path("out/teacher"), help="checkpoint and log (default %(default)s)"
    )
    parser.add_argument("--budget", type=parse_duration_s, default=parse_duration_s("73m"))
    parser.add_argument("--batch", type=int, default=64, help="observations per process and step")
    parser.add_argument("--repeats", type=int, default=3, help="(noise, time) draws per observation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--initial", type=Path, help="teacher folder whose weights to start from")
    parser.add_argument("--match", type=Path, help="teacher folder to start from and whose vision to match")
    parser.add_argument("--blank-words", action="store_true", help="the control: the same model, no words")
    arguments = parser.parse_args()
    place = join()
    torch.manual_seed(arguments.seed)

    data = Demonstrations(arguments.data)
    config = TeacherConfig(vocabulary=len(data.meta["vocabulary"]) + 1, max_tokens=MAX_TOKENS)
    first = first_model(config, data, arguments.seed, arguments.initial, arguments.match)
    model = first.model
    batches = Batches(
        data,
        Sampling(32, 8, MAX_TOKENS, arguments.blank_words),
        arguments.batch,
        arguments.seed + 1000 * place.rank,
        first.statistics,
    )
    run = Run(model, Recipe(arguments.budget, arguments.learning_rate), arguments.work / "checkpoint.safetensors")
    meta = {
        "words": data.meta["vocabulary"],
        "state_mean": [float(v) for v in batches.mean],
        "state_std": [float(v) for v in batches.std],
        "seed": arguments.seed,
        "blank_words": arguments.blank_words,
    }
    resumed = run.resume()
    if place.chief:
        print(
            f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(data):,} ticks, resumed: {resumed}",
            flush=True,
        )
    shown = [time.monotonic(), time.monotonic()]

    def report(progress: Progress) -> None:
        now = time.monotonic()
        if now - shown[0] > 20:
            left = arguments.budget - progress.elapsed_s
            rate = progress.samples / progress.elapsed_s
            print(
                f"step {progress.step:6d}  loss {progress.loss:.4f}  {rate:.0f} samples/s  {left / 60:.0f} min left",
                flush=True,
            )
            shown[0] = now
        if now - shown[1] > SNAPSHOT_S:
            snapshot = FlowTeacher(model.config)
            snapshot.load_state_dict(model.state_dict())
            snapshot.load_state_dict(run.average, strict=False)
            save_teacher(arguments.out, snapshot, {**meta, "progress": dict(vars(progress))})
            shown[1] = now

    generator = torch.Generator().manual_seed(arguments.seed + 1000 * place.rank)
    os.makedirs(arguments.work, exist_ok=True)
    progress = train(
        run,
        FlowObjective(model, arguments.repeats, generator, first.match),
        batches.next,
        report,
        arguments.work / "log.jsonl",
    )
    if place.chief:
        save_teacher(arguments.out, model, {**meta, "progress": dict(vars(progress))})
    leave()


if __name__ == "__main__":
    main()
