r"""How far an action jumps where a new chunk takes over, for every length of the prefix.

    python -m export.distill.seam --teacher DIR --data DIR --student work/distil/student.safetensors -o seam.json

A chunk asked `back` ticks ago has committed the rows that act until the new one is there: its row back + d - 1 is the
last that acts, row d of the new chunk follows it. `steps` is the difference of the two against the usual step of that
channel inside the new chunk: 1 means that the seam cannot be told from the rest. `jump` is the difference in the unit
of the channel (m, rad, ...). Each line is of the channel whose steps are the largest. Teacher and student each follow
their own earlier chunk; one that knows no prefix is given none.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.distill.failures import writing
from export.distill.feed import Feed, teacher_feed
from export.distill.opening import open_data, open_teacher, source_of
from export.distill.source import Rows, Source
from export.distill.targets import shift_rows
from export.students.interface import load_student
from export.teachers.interface import TeacherPolicy

Array = npt.NDArray[Any]
Answer = Callable[[Rows, Tensor, Tensor], Tensor]  # rows, prefix, mask -> chunk (B, H, A), normalised
SMALLEST_STEP = 1e-6  # units; a channel that stands still has no usual step


@dataclass(frozen=True)
class Seam:
    """One line of the table: one policy, one length of the prefix, its worst channel."""

    policy: str
    depth: int  # ticks
    frames: int
    channel: str
    jump_p50: float
    jump_p95: float
    steps_p50: float
    steps_p95: float


def seam(policy: str, depth: int, last: Array, chunk: Array, channels: Sequence[str]) -> Seam:
    """The line from the last committed action (B, A) and the new chunk (B, H, A), both in channel units.

    The usual step of a channel is the median over all frames and rows: one frame may stand still.
    """
    jump = np.abs(chunk[:, depth] - last)  # (B, A)
    usual = np.median(np.abs(np.diff(chunk[:, depth:], axis=1)), axis=(0, 1))  # (A,)
    steps = jump / np.maximum(usual, SMALLEST_STEP)
    worst = int(np.quantile(steps, 0.95, axis=0).argmax())
    found = [float(np.quantile(v[:, worst], share)) for v in (jump, steps) for share in (0.5, 0.95)]
    return Seam(policy, depth, len(chunk), channels[worst], *found)


def seams(
    policy: str, answer: Answer, source: Source, rows: Rows, d_max: int, back: int, units: Mapping[str, float]
) -> list[Seam]:
    """Lines for d = 0 to d_max of one policy that follows its own chunk of `back` ticks ago.

    units: per channel, in order: its unit per normalised action.
    """
    scale = np.array(list(units.values()))
    earlier, moved = source.before(rows, np.full(len(rows["tick"]), back))
    whole = np.flatnonzero(moved == back)  # near the start of an episode there is no chunk that old
    rows, earlier = ({name: value[whole] for name, value in r.items()} for r in (rows, earlier))
    actions = torch.from_numpy(rows["actions"])
    empty = torch.zeros_like(actions)
    before = answer(earlier, empty, empty[..., :1])
    committed = shift_rows(before, torch.full((len(whole),), back))
    lines = []
    for depth in range(d_max + 1):
        mask = (torch.arange(actions.shape[1]) < depth).float()[None, :, None].expand(len(whole), -1, 1)
        chunk = answer(rows, committed * mask, mask)
        last = before[:, back + depth - 1].numpy() * scale
        lines.append(seam(policy, depth, last, chunk.numpy() * scale, list(units)))
    return lines


def table(lines: Sequence[Seam]) -> str:
    """For people."""
    head = f"{'policy':10}{'d':>4}  {'channel':16}{'steps p50':>10}{'p95':>9}{'jump p50':>12}{'p95':>12}"
    rows = (
        f"{s.policy:10}{s.depth:4d}  {s.channel:16}{s.steps_p50:10.2f}{s.steps_p95:9.2f}"
        f"{s.jump_p50:12.3g}{s.jump_p95:12.3g}"
        for s in lines
    )
    return "\n".join([head, *rows])


@torch.inference_mode()
def measure(
    teacher: TeacherPolicy, source: Source, path: Path, frames: int = 300, back: int | None = None, seed: int = 7
) -> list[Seam]:
    """Teacher and student on the same frames, both from the z that the bundle carries.

    Args:
        teacher: the loaded teacher.
        source: the dataset as its questions.
        path: student.safetensors.
        frames: to draw; those too near to the start of their episode fall out.
        back: ticks between two chunks; None: the longest prefix.
        seed: of the frames.

    Raises:
        BadInput: the student cannot be read.
    """
    saved = load_student(path)
    student, noise = saved.student, saved.student.fixed_noise
    feed = Feed(saved.feeding, source.sentences, source.present, teacher)
    asked = teacher_feed(teacher, source.sentences, source.present)
    back = max(1, back if back is not None else student.d_max)

    def inputs(of: Feed, rows: Rows) -> dict[str, Tensor]:
        return of(source.pictures(rows["seen"]), rows["state"], rows["sentence"])

    def teachers(rows: Rows, prefix: Tensor, mask: Tensor) -> Tensor:
        return _in_parts(
            rows, prefix, mask, lambda r, p, m: teacher(inputs(asked, r), noise.expand(len(p), -1, -1), p, m)
        )

    def students(rows: Rows, prefix: Tensor, mask: Tensor) -> Tensor:
        return _in_parts(
            rows, prefix, mask, lambda r, p, m: student(inputs(feed, r), noise.expand(len(p), -1, -1), p, m)[0]
        )

    rows = source.draw(frames, seed, student.horizon, 0)
    spec, d_max = teacher.spec, min(student.d_max, student.horizon - back)
    scale = dict(zip(spec.actions, spec.action_stats.scale.tolist(), strict=True))
    lines = seams("teacher", teachers, source, rows, d_max, back, scale)
    return lines + seams("student", students, source, rows, d_max, back, scale)


def _in_parts(rows: Rows, prefix: Tensor, mask: Tensor, answer: Answer, size: int = 16) -> Tensor:
    """The answers of many rows, a few at a time."""
    parts = []
    for first in range(0, len(prefix), size):
        picked = slice(first, first + size)
        parts.append(answer({name: v[picked] for name, v in rows.items()}, prefix[picked], mask[picked]).float())
    return torch.cat(parts)


def write(path: Path, lines: Sequence[Seam], about: dict[str, Any]) -> None:
    """The table as JSON. Raises BadInput: the disk is full."""
    temporary = path.with_name(f".{path.name}.part")
    with writing(path, temporary):
        temporary.write_text(json.dumps({**about, "rows": [asdict(line) for line in lines]}, indent=1) + "\n")
        os.replace(temporary, path)


def main() -> None:
    """Command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--teacher", required=True)
    made.add_argument("--data", required=True)
    made.add_argument("--student", type=Path, required=True)
    made.add_argument("--frames", type=int, default=300)
    made.add_argument("--back", type=int, help="ticks between two chunks; default: the longest prefix")
    made.add_argument("-o", "--out", type=Path, required=True)
    given = made.parse_args()
    torch.set_num_threads(1)
    teacher = open_teacher(given.teacher)
    source = source_of(open_data(given.data, given.out.parent / "frames"), teacher)
    lines = measure(teacher, source, given.student, given.frames, given.back)
    write(given.out, lines, {"teacher": teacher.spec.name, "prefix_trained": teacher.spec.d_max})
    print(table(lines))


if __name__ == "__main__":
    main()
