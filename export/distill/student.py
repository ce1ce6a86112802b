"""Distils a one-pass student from a multi-step teacher; started by `edgevla compress` on every core.

    torchrun --nproc_per_node 2 -m export.distill.student --teacher DIR --data DIR --work DIR --budget 7m
    accelerate launch --multi_gpu --num_processes 2 -m export.distill.student --teacher DIR ...

First the missing targets are made, then the student is trained on them for the rest of the budget. Both go on where a
kill left them. `--multi_gpu` is what makes accelerate start several processes, on CPUs too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist

from edgevla.control.realtime import die_with_parent
from edgevla.errors import EdgevlaError
from export.budget import parse_duration_s
from export.distill import qat
from export.distill.board import Board
from export.distill.cache import CachedRows, TargetCache
from export.distill.failures import writing
from export.distill.feed import Feed, teacher_feed
from export.distill.loop import Batch, Progress, Recipe, Run, train
from export.distill.losses import DistilObjective
from export.distill.opening import open_data, open_teacher, source_of
from export.distill.parallel import Place, join, leave
from export.distill.progress import Reporter
from export.distill.source import Source
from export.distill.start import FORMS, Wish, bundle_noise, make_student, matched_features, whiten
from export.distill.targets import SHARD, TargetPlan, Targets, make_targets, open_cache, planned_keys
from export.embodiment import read_embodiment
from export.request import MODES
from export.students.interface import Feeding, Student, save_student
from export.teachers.interface import TeacherPolicy
from export.teachers.precision import PRECISIONS

LEAST_TRAINING = 0.1  # of the budget, however long the targets took
FINISH_SHARE = 0.1  # of the budget
FINISHING = ("none", *qat.KINDS)


@dataclass(frozen=True)
class Settings:
    """One distillation. `budget_s` covers target making and training."""

    teacher: str  # folder, or FILE.py:FUNCTION
    data: str
    work: Path
    budget_s: float
    examples: int
    batch: int
    learning_rate: float
    seed: int
    mode: str
    finish: str = "none"
    steps: int | None = None
    tokenizer: Path | None = None
    precision: str = "fp32"
    teacher_steps: int | None = None
    embodiment: Path | None = None
    wish: Wish = field(default_factory=Wish)


@dataclass(frozen=True)
class Job:
    """What is distilled into what: everything that does not change while it runs."""

    teacher: TeacherPolicy
    source: Source
    student: Student
    feeding: Feeding
    feed: Feed  # of the student
    plan: TargetPlan
    widths: tuple[int, int] | None  # of the features that are matched


def prepare(settings: Settings) -> Job:
    """Teacher, data, and a student as it starts; the same in every process.

    Raises:
        BadInput: teacher or data are unusable or do not fit each other.
        Refused, Usage: a student or control that this teacher does not allow.
    """
    torch.manual_seed(settings.seed)
    teacher = open_teacher(settings.teacher, settings.tokenizer, settings.precision, settings.teacher_steps)
    robot = None if settings.embodiment is None else read_embodiment(settings.embodiment)
    cameras = None if robot is None else robot.camera_sources
    source = source_of(open_data(settings.data, settings.work, cameras), teacher)
    noise, scale = bundle_noise(teacher, settings.seed)
    student, feeding = make_student(teacher, settings.wish, settings.mode, noise, source.sentences)
    feed = Feed(feeding, source.sentences, source.present, teacher)
    whiten(student, feed, source, settings.seed)
    form, widths = matched_features(teacher, student, feed, source)
    plan = TargetPlan(
        shards=settings.examples // SHARD,
        seed=settings.seed,
        fixed_noise=noise,
        d_max=student.d_max,
        noise_scale=scale,
        blend=student.d_max,
        features=form,
    )
    return Job(teacher, source, student, feeding, feed, plan, widths)


def ask_teacher(job: Job, cache: TargetCache, place: Place) -> CachedRows:
    """Makes this process's part of the missing targets; returns all when they are there."""
    feed = teacher_feed(job.teacher, job.source.sentences, job.source.present)
    mine = range(place.rank, job.plan.shards, place.world)
    reporter = Reporter("teacher targets", len(mine), place.chief)
    for done, number in enumerate(mine, 1):
        make_targets(job.teacher, feed, job.source, job.plan, number, cache)
        reporter.show(done, f"{done * SHARD * place.world:,} examples")
    reporter.close()
    if dist.is_initialized():
        dist.barrier()
    cache.refresh()
    return cache.rows(planned_keys(job.source, job.plan, job.teacher.spec.d_max > 0))


def distil(settings: Settings) -> None:
    """Runs one distillation in this process and its peers; the chief writes `student.safetensors`."""
    place = join()
    started = time.monotonic()
    job, folder = prepare(settings), settings.work / settings.mode
    cache = open_cache(settings.work / "targets", job.teacher, job.source, job.plan)
    rows = ask_teacher(job, cache, place)
    clock = _Clock(settings.work / "targets_s.json")
    if place.chief:
        clock.add(time.monotonic() - started)
    if dist.is_initialized():
        dist.barrier()
    rest_s = max(LEAST_TRAINING * settings.budget_s, settings.budget_s - clock.read())
    progress = _train(settings, job, rows, place, rest_s)
    if place.chief:
        notes = {"progress": vars(progress), "mode": settings.mode, "finish": settings.finish}
        save_student(folder / "student.safetensors", job.student, job.feeding, notes)
    leave()


def _train(settings: Settings, job: Job, rows: CachedRows, place: Place, rest_s: float) -> Progress:
    """Trains the student of a job in place."""
    folder = settings.work / settings.mode
    objective = DistilObjective(job.student, settings.mode, job.widths)
    share = 0.0 if settings.finish == "none" else FINISH_SHARE
    recipe = Recipe(rest_s, settings.learning_rate, ema=0.998, steps=settings.steps, finish=share)
    run = Run(objective, recipe, folder / "checkpoint.safetensors")
    run.resume()
    where = (place.rank, place.world)
    targets = Targets(rows, job.source, job.feed, settings.batch, settings.seed, where, run.progress.step)
    total = float(settings.steps or rest_s)
    reporter = Reporter(f"distillation ({settings.mode})", total, place.chief)
    board = Board(folder / "tensorboard", place.chief)

    def report(progress: Progress) -> None:
        done = progress.step if settings.steps else progress.elapsed_s
        reporter.show(done, f"loss {progress.loss:.4f}, {progress.samples:,} examples")

    def finish(batch: Batch) -> None:
        qat.start_finishing(job.student, settings.finish, lambda: objective(batch))

    progress = train(run, objective, targets.next, report, folder / "log.jsonl", board, finish if share else None)
    qat.stop_finishing(job.student)
    reporter.close()
    board.close()
    return progress


class _Clock:
    """Seconds spent on targets, kept over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> float:
        return float(json.loads(self._path.read_text())) if self._path.exists() else 0.0

    def add(self, seconds: float) -> None:
        if self._path.exists() and seconds < 15.0:
            return  # a restart that found everything there: loading is not target making
        temporary = self._path.with_suffix(".part")
        with writing(self._path, temporary):
            temporary.write_text(json.dumps(self.read() + seconds))
            os.replace(temporary, self._path)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--teacher", required=True, help="policy folder, or FILE.py:FUNCTION that returns one")
    made.add_argument("--data", required=True, help="dataset folder, or FILE.py:FUNCTION that returns one")
    made.add_argument("--work", type=Path, required=True)
    made.add_argument("--budget", dest="budget_s", type=parse_duration_s, default=parse_duration_s("7m"))
    made.add_argument("--examples", type=int, default=20_480, help="cached teacher answers")
    made.add_argument("--batch", type=int, default=64, help="per process")
    made.add_argument("--learning-rate", type=float, default=1e-3)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--mode", choices=MODES, default="distil")
    made.add_argument("--finish", choices=FINISHING, default="none", help="artifact to finish for")
    made.add_argument("--steps", type=int, help="train that many steps instead of the budget")
    made.add_argument("--tokenizer", type=Path, help="folder with the teacher's tokenizer.json")
    made.add_argument("--teacher-precision", dest="precision", choices=PRECISIONS, default="fp32")
    made.add_argument("--teacher-steps", type=int, help="flow or diffusion steps, for a teacher that can choose")
    made.add_argument("--embodiment", type=Path, help="TOML of the robot: which camera is which")
    made.add_argument("--student", dest="form", choices=FORMS, default="auto")
    made.add_argument("--depth", type=float, help="share of the teacher's layers in a pruned student")
    made.add_argument("--d-max", type=int, help="longest prefix, ticks, for a teacher that knows none")
    made.add_argument("--picture", type=int, default=128, help="longest side of a compact student's pictures, pixels")
    made.add_argument("--width", type=int, default=320, help="of a compact student")
    return made


def settings_of(arguments: Sequence[str] | None = None) -> Settings:
    """Of a command line; None: of this process."""
    given = vars(parser().parse_args(arguments))
    wish = Wish(**{name: given.pop(name) for name in ("form", "depth", "d_max", "picture", "width")})
    return replace(Settings(**given), wish=wish)


def main() -> None:
    """Command line."""
    settings = settings_of()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(os.getppid(), signal.SIGKILL)  # a killed torchrun must not leave its workers behind
    try:
        distil(settings)
    except EdgevlaError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_code)  # peers of this process may wait in gloo, whose threads would abort it


if __name__ == "__main__":
    main()
