r"""Does finishing for int8 pay? The same training up to its last stretch, then that stretch both ways.

    python -m export.distill.finish_effect --teacher DIR --data DIR --work DIR --steps 3000 -o finish.json

Goes on where it was stopped. Each student becomes real int8 graphs (`export.quantize.artifact`), which answer frames
that were drawn apart from the training examples; errors are over the rows after the prefix. One process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.distill import qat
from export.distill.failures import writing
from export.distill.feed import teacher_feed
from export.distill.loop import Batch, Recipe, Run, train
from export.distill.losses import DistilObjective
from export.distill.parallel import join
from export.distill.progress import Reporter
from export.distill.student import FINISH_SHARE, Job, Settings, ask_teacher, prepare
from export.distill.targets import Targets, make_targets, open_cache, planned_keys
from export.onnx.stages import export_stage
from export.quantize.artifact import quantize
from export.students.interface import Student

Array = npt.NDArray[Any]
KIND = "dynamic-s8"


@dataclass(frozen=True)
class Effect:
    """One way of finishing. Errors: root mean square over rows and channels, normalised; `worst` in its unit."""

    finish: str
    seed: int  # of the batches of the last stretch
    frames: int
    float_to_teacher: float  # of the student in torch FP32
    int8_to_teacher: float
    int8_to_float: float
    worst_channel: str  # with the largest normalised difference of int8 and float
    worst_p99: float  # of that difference, in the unit of the channel


def rms(got: Array, wanted: Array, weight: Array) -> float:
    """Of (B, H, A) where weight (B, H, 1) is 1, normalised."""
    return float(np.sqrt((np.square(got - wanted) * weight).sum() / (weight.sum() * got.shape[-1])))


def worst(got: Array, wanted: Array, weight: Array, units: Mapping[str, float]) -> tuple[str, float]:
    """The channel with the largest p99 of normalised differences, and that p99 in its unit."""
    apart = np.abs(got - wanted)[weight[..., 0] > 0]  # (rows, A)
    p99 = np.quantile(apart, 0.99, axis=0)
    channel = list(units)[int(p99.argmax())]
    return channel, float(p99.max() * units[channel])


def int8_chunks(student: Student, batch: Batch) -> Array:
    """Answers of the artifact, frame by frame: stages run behind each other in ONNX Runtime."""
    from edgevla.policy.engine import open_session

    stages = student.stages()
    sessions = []
    for stage in stages:
        graph = export_stage(stage)
        sessions.append(open_session(graph if stage.name == "text" else quantize(graph, KIND), stage.name))
    chunks = []
    for i in range(len(batch["state"])):
        values = {"image": batch["image"][i : i + 1].numpy(), "prefix_mask": batch["mask"][i : i + 1].numpy()}
        values |= {n: batch[n][i : i + 1].numpy() for n in ("state", "tokens", "noise", "prefix") if n in batch}
        for stage, session in zip(stages, sessions, strict=True):
            answer = session.run(None, {name: values[name] for name in stage.inputs})
            values |= dict(zip(stage.outputs, answer, strict=True))
        chunks.append(values["chunk"][0])
    return np.stack(chunks)


@torch.inference_mode()
def effect(job: Job, batch: Batch, finish: str, seed: int) -> Effect:
    """The line of a finished student."""
    student, spec = job.student.eval(), job.teacher.spec
    units = dict(zip(spec.actions, spec.action_stats.scale.tolist(), strict=True))
    plain = student(batch, batch["noise"], batch["prefix"], batch["mask"])[0].numpy()
    whole, wanted = int8_chunks(student, batch), batch["endpoint"].numpy()
    weight = (1 - batch["mask"]).numpy()
    found = rms(plain, wanted, weight), rms(whole, wanted, weight), rms(whole, plain, weight)
    return Effect(finish, seed, len(weight), *found, *worst(whole, plain, weight, units))


def _stretch(job: Job, targets: Targets, path: Path, steps: int, until: int, finish: str) -> None:
    """Trains from the state at `path` to step `until` of `steps`, and writes the state there."""
    objective = DistilObjective(job.student, "distil", job.widths)
    run = Run(objective, Recipe(1.0, 1e-3, ema=0.998, steps=steps, finish=FINISH_SHARE, pause=until), path)
    run.resume()
    reporter, first = Reporter(f"{finish} to step {until}", until), run.progress.step
    targets.step = first

    def draw() -> Batch:
        reporter.show(run.progress.step)
        return targets.next()

    def begin(batch: Batch) -> None:
        qat.start_finishing(job.student, finish, lambda: objective(batch))

    train(run, objective, draw, lambda _: None, finish=begin if finish in qat.KINDS else None)
    qat.stop_finishing(job.student)
    reporter.close()


def measure(settings: Settings, seeds: int, frames: int) -> list[Effect]:
    """All lines: both ways for every seed."""
    place, steps = join(), int(settings.steps or 0)
    job = prepare(settings)
    cache = open_cache(settings.work / "targets", job.teacher, job.source, job.plan)
    rows = ask_teacher(job, cache, place)
    unseen = replace(job.plan, shards=1, seed=settings.seed + 77)
    feed = teacher_feed(job.teacher, job.source.sentences, job.source.present)
    make_targets(job.teacher, feed, job.source, unseen, 0, cache)
    held_out = cache.rows(planned_keys(job.source, unseen, job.teacher.spec.d_max > 0))
    batch = Targets(held_out, job.source, job.feed, 1, 0).take(range(min(frames, len(held_out))))
    common, lines = settings.work / "common.safetensors", []
    start = {name: value.clone() for name, value in job.student.state_dict().items()}
    begin = round(steps * (1 - FINISH_SHARE))
    _stretch(job, _targets(rows, job, settings, settings.seed), common, steps, begin, "common")
    for seed in range(seeds):
        for finish in ("none", KIND):
            job.student.load_state_dict(start)
            path = settings.work / f"{finish}-{seed}.safetensors"
            if not path.exists():
                shutil.copy(common, path)
            _stretch(job, _targets(rows, job, settings, seed + 1), path, steps, steps, finish)
            lines.append(effect(job, batch, finish, seed))
            print(line(lines[-1]), flush=True)
    return lines


def _targets(rows: Any, job: Job, settings: Settings, seed: int) -> Targets:
    return Targets(rows, job.source, job.feed, settings.batch, seed)


HEAD = f"{'finish':12}{'seed':>5}{'float-teacher':>15}{'int8-teacher':>14}{'int8-float':>12}  worst channel, p99"


def line(found: Effect) -> str:
    """For people."""
    rest = f"{found.int8_to_teacher:14.5f}{found.int8_to_float:12.5f}  {found.worst_channel} {found.worst_p99:.4g}"
    return f"{found.finish:12}{found.seed:5d}{found.float_to_teacher:15.5f}{rest}"


def main() -> None:
    """Command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--teacher", required=True)
    made.add_argument("--data", required=True)
    made.add_argument("--work", type=Path, required=True)
    made.add_argument("--steps", type=int, default=3000)
    made.add_argument("--examples", type=int, default=20_480)
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--seeds", type=int, default=2)
    made.add_argument("--frames", type=int, default=300)
    made.add_argument("-o", "--out", type=Path, required=True)
    given = made.parse_args()
    settings = Settings(
        given.teacher, given.data, given.work, 1.0, given.examples, given.batch, 1e-3, 0, "distil", steps=given.steps
    )
    print(HEAD, flush=True)
    lines = measure(settings, given.seeds, given.frames)
    temporary = given.out.with_name(f".{given.out.name}.part")
    with writing(given.out, temporary):
        about = {"steps": given.steps, "batch": given.batch, "examples": given.examples}
        temporary.write_text(json.dumps({**about, "rows": [asdict(found) for found in lines]}, indent=1) + "\n")
        os.replace(temporary, given.out)


if __name__ == "__main__":
    main()
