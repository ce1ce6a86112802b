"""Distils a one-pass student from a multi-step teacher; started by `edgevla compress` on every core.

    torchrun --nproc_per_node 2 -m export.distill.student --teacher DIR --data DIR --work DIR --budget 7m

First the missing target shards are made, then the student is trained on them for the rest of the budget. Both go on
where a kill left them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from edgevla.control.realtime import die_with_parent
from export.budget import parse_duration_s
from export.distill.dataset import Demonstrations
from export.distill.loop import Progress, Recipe, Run, train
from export.distill.parallel import Place, join, leave
from export.distill.progress import Reporter
from export.distill.rows import row_weights
from export.distill.start import student_for, whiten
from export.distill.targets import SHARD, TargetPlan, Targets, make_shard, missing_shards
from export.request import MODES
from export.students.onepass import OnePassStudent
from export.teachers.folder import Teacher, load_teacher
from export.teachers.noise import bundle_noise, noise_scale

FEATURE_WEIGHT = 0.3
LEAST_TRAINING = 0.1  # of the budget, however long the targets took


@dataclass(frozen=True)
class Settings:
    """One distillation. `budget_s` covers target making and training."""

    teacher: Path
    data: Path
    work: Path
    budget_s: float
    examples: int
    batch: int
    learning_rate: float
    seed: int
    mode: str


class DistilObjective(nn.Module):
    """Distance of the chunk to its target after the prefix, and of the observation tokens to the teacher's."""

    def __init__(self, student: OnePassStudent, mode: str) -> None:
        super().__init__()
        self.student, self.mode = student, mode
        self.register_buffer("row_weight", row_weights(student.config.horizon))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        student = self.student
        text, body = student.encode_text(batch["tokens"]), student.state(batch["state"])[:, None]
        observation = student.observe(student.encode_image(batch["image"]), text, body)
        chunk = student.decode(observation, text + body, batch["noise"], batch["prefix"], batch["mask"]).float()
        if self.mode == "demos-only":
            return self._action_loss(chunk, batch["actions"], batch["valid"] * (1 - batch["mask"]))
        features = (observation.float() - batch["features"].float()).square().mean()
        return self._action_loss(chunk, batch["endpoint"], 1 - batch["mask"]) + FEATURE_WEIGHT * features

    def _action_loss(self, chunk: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        weight = weight * torch.as_tensor(self.row_weight)
        error = nn.functional.smooth_l1_loss(chunk, target, beta=0.1, reduction="none")
        return (weight * error).sum() / (weight.sum() * chunk.shape[-1])


def make_targets(settings: Settings, place: Place, teacher: Teacher, data: Demonstrations) -> TargetPlan:
    """Makes this process's part of the missing shards; returns when all are there."""
    noise = bundle_noise(teacher, settings.seed)
    plan = TargetPlan(
        settings.examples // SHARD, settings.seed, torch.from_numpy(noise), noise_scale=noise_scale(teacher)
    )
    folder = settings.work / "targets"
    mine = missing_shards(folder, plan)[place.rank :: place.world]
    reporter = Reporter("teacher targets", len(mine), place.chief)
    for done, number in enumerate(mine, 1):
        make_shard(teacher, data, plan, number, folder)
        reporter.show(done, f"{done * SHARD * place.world:,} examples")
    reporter.close()
    if dist.is_initialized():
        dist.barrier()
    return plan


def distil(settings: Settings) -> None:
    """Runs one distillation in this process and its peers; the chief writes `student.safetensors`."""
    place = join()
    started = time.monotonic()
    torch.manual_seed(settings.seed)
    teacher, data = load_teacher(settings.teacher), Demonstrations(settings.data)
    plan = make_targets(settings, place, teacher, data)
    clock = _Clock(settings.work / "targets_s.json")
    if place.chief:
        clock.add(time.monotonic() - started)
    if dist.is_initialized():
        dist.barrier()
    student = student_for(teacher, settings.mode, plan.fixed_noise)
    whiten(student, teacher, data, settings.mode, settings.seed)
    rest_s = max(LEAST_TRAINING * settings.budget_s, settings.budget_s - clock.read())
    recipe = Recipe(rest_s, settings.learning_rate, ema=0.998)
    run = Run(student, recipe, settings.work / settings.mode / "checkpoint.safetensors")
    run.resume()
    targets = Targets(
        settings.work / "targets",
        plan,
        data,
        settings.batch,
        settings.seed + 1000 * place.rank + run.progress.step,
    )
    reporter = Reporter(f"distillation ({settings.mode})", rest_s, place.chief)

    def report(progress: Progress) -> None:
        reporter.show(progress.elapsed_s, f"loss {progress.loss:.4f}, {progress.samples:,} examples")

    os.makedirs(settings.work / settings.mode, exist_ok=True)
    progress = train(
        run,
        DistilObjective(student, settings.mode),
        targets.next,
        report,
        settings.work / settings.mode / "log.jsonl",
    )
    reporter.close()
    if place.chief:
        _write_student(student, settings.work / settings.mode, progress)
    leave()


class _Clock:
    """Seconds spent on targets, kept over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> float:
        return float(json.loads(self._path.read_text())) if self._path.exists() else 0.0

    def add(self, seconds: float) -> None:
        if self._path.exists() and seconds < 15.0:
            return  # a restart that found everything there: loading is not target making
        self._path.write_text(json.dumps(self.read() + seconds))


def _write_student(student: OnePassStudent, folder: Path, progress: Progress) -> None:
    weights = {name: value.detach().contiguous() for name, value in student.state_dict().items()}
    metadata = {"config": json.dumps(student.config.to_dict()), "progress": json.dumps(vars(progress))}
    save_file(weights, folder / ".student.part", metadata=metadata)
    os.replace(folder / ".student.part", folder / "student.safetensors")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--budget", dest="budget_s", type=parse_duration_s, default=parse_duration_s("7m"))
    parser.add_argument("--examples", type=int, default=20_480, help="cached teacher answers")
    parser.add_argument("--batch", type=int, default=64, help="per process")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=MODES, default="distil")
    settings = Settings(**vars(parser.parse_args()))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(os.getppid(), signal.SIGKILL)  # a killed torchrun must not leave its workers behind
    distil(settings)


if __name__ == "__main__":
    main()
