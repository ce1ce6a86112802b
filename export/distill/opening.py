"""Teachers and datasets by what stands on the command line: a folder, or a function of a Python file of one's own."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from edgevla.errors import BadInput, EdgevlaError, Usage, explain
from export.data.load import open_dataset
from export.data.mapped import MappedCameras
from export.data.ours import OurData
from export.distill.feed import teacher_feed
from export.distill.source import DemoSource, Recorded, RobotSource, Source
from export.teachers.interface import TeacherPolicy
from export.teachers.load import load_policy
from export.teachers.ours import FlowPolicy


def open_teacher(
    where: str, tokenizer: Path | None = None, precision: str = "fp32", steps: int | None = None
) -> TeacherPolicy:
    """A policy folder (the rest as in `load_policy`), or `FILE.py:FUNCTION` that returns a `TeacherPolicy`.

    Raises:
        BadInput: no such teacher; the sentence says what is missing.
        Usage: an option that a function of one's own has no use for.
    """
    made = from_file(where)
    if made is not None and (precision != "fp32" or steps is not None):
        asked = f"--teacher-precision {precision}" if precision != "fp32" else f"--teacher-steps {steps}"
        todo = "leave it out: the function decides how its policy is loaded"
        raise Usage(explain(f"teacher {where}", "no options of policy folders", asked, todo))
    if made is None:
        made = load_policy(Path(where), tokenizer, precision, steps)
    if not isinstance(made, TeacherPolicy):
        got = type(made).__name__
        raise BadInput(explain(f"teacher {where}", "a TeacherPolicy", got, "see docs/export.md"))
    made.requires_grad_(False)
    return made.eval()


def open_data(where: str, work: Path, cameras: Mapping[str, str] | None = None, progress: bool = True) -> Recorded:
    """A dataset folder, or `FILE.py:FUNCTION` that returns one (see `source.Recorded`).

    Args:
        where: the folder or function.
        work: where decoded video is kept.
        cameras: the policy's name of a camera -> the dataset's, where they differ; "none": it has no such camera.
        progress: show how far the decoding is.

    Raises:
        BadInput: no such dataset, or none with these cameras.
    """
    made: Recorded | None = from_file(where)
    data = open_dataset(Path(where), work, progress) if made is None else made
    return data if cameras is None else MappedCameras.of(data, cameras)


def source_of(data: Recorded, teacher: TeacherPolicy) -> Source:
    """The dataset as questions to this teacher. Raises BadInput: it is of another embodiment."""
    if isinstance(data, OurData) and isinstance(teacher, FlowPolicy):
        stats, spec = teacher.spec.state_stats, teacher.spec
        return DemoSource(data.demonstrations, (stats.offset, stats.scale), spec.max_tokens)
    return RobotSource(data, teacher.spec)


def from_file(where: str, *arguments: object) -> Any:
    """What the named function of a Python file (`FILE.py:FUNCTION`) returns; None for anything else.

    Raises:
        BadInput: no such file or function, or what its code raises, told as that.
    """
    path, _, function = where.rpartition(":")
    if not path.endswith(".py"):
        return None
    name = f"edgevla_user_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise BadInput(explain("Python file", f"{path}", "no such file", "check the path"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with own_code(path):
        spec.loader.exec_module(module)
    if not callable(made := getattr(module, function, None)):
        raise BadInput(explain(f"function of {path}", function, "no such function", "check the name"))
    with own_code(where):
        return made(*arguments)


@contextlib.contextmanager
def own_code(where: str) -> Iterator[None]:
    """What goes wrong in a user's file is told as that, with its line."""
    try:
        yield
    except EdgevlaError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        got = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        raise BadInput(explain(where, "code that runs", got, "correct it; --debug shows the traceback")) from error


def require_answer(teacher: TeacherPolicy, source: Source) -> None:
    """Asks once: a module of one's own answers a chunk of the shape that its spec says. Raises BadInput."""
    spec = teacher.spec
    rows = source.draw(2, 0, spec.horizon, spec.d_max)
    with own_code(f"teacher {spec.name}"), torch.inference_mode():
        inputs = teacher_feed(teacher, source.sentences, source.present)(
            source.pictures(rows["seen"]), rows["state"], rows["sentence"]
        )
        blank = torch.zeros(2, spec.horizon, len(spec.actions))
        chunk = teacher(inputs, torch.zeros(2, spec.horizon, spec.noise), blank, blank[..., :1])
    if tuple(chunk.shape) != tuple(blank.shape) or not torch.isfinite(chunk).all():
        got = f"shape {tuple(chunk.shape)}" if tuple(chunk.shape) != tuple(blank.shape) else "NaN or infinity"
        expected = f"a chunk of finite numbers (B, {spec.horizon}, {len(spec.actions)}), as its spec says"
        raise BadInput(explain(f"answer of teacher {spec.name}", expected, got, "correct decode, or the spec"))
