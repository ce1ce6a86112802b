"""Teachers and datasets by what stands on the command line: a folder, or a function of a Python file of one's own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from export.distill.dataset import Demonstrations
from export.distill.source import DemoSource, RobotSource, Source
from export.teachers.folder import SCHEMA, load_teacher
from export.teachers.interface import TeacherPolicy
from export.teachers.ours import FlowPolicy


def open_teacher(where: str) -> TeacherPolicy:
    """A policy folder, or `FILE.py:FUNCTION` that returns a `TeacherPolicy`.

    Raises:
        BadInput: no such teacher; the sentence says what is missing.
    """
    made = _from_file(where)
    if made is None:
        made = _from_folder(Path(where))
    if not isinstance(made, TeacherPolicy):
        got = type(made).__name__
        raise BadInput(explain(f"teacher {where}", "a TeacherPolicy", got, "see docs/distillation.md"))
    made.requires_grad_(False)
    return made.eval()


def _from_folder(folder: Path) -> TeacherPolicy:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(explain("teacher folder", "a config.json", f"{folder}: {error}", "check the path")) from error
    if isinstance(config, dict) and config.get("schema") == SCHEMA:
        return FlowPolicy(load_teacher(folder))
    load = importlib.import_module("export.teachers.load")
    policy: TeacherPolicy = load.load_policy(folder)
    return policy


def open_source(where: str, teacher: TeacherPolicy, work: Path) -> Source:
    """A dataset folder, or `FILE.py:FUNCTION` that returns one (see `source.Recorded`), as questions to this teacher.

    Decoded video is kept in `work`.

    Raises:
        BadInput: no such dataset, or one of another embodiment.
    """
    made = _from_file(where)
    if made is not None:
        return RobotSource(made, teacher.spec)
    folder = Path(where)
    if isinstance(teacher, FlowPolicy):
        stats, spec = teacher.spec.state_stats, teacher.spec
        return DemoSource(Demonstrations(folder), (stats.offset, stats.scale), spec.max_tokens)
    data = importlib.import_module("export.data.load")
    return RobotSource(data.open_dataset(folder, work), teacher.spec)


def _from_file(where: str) -> Any:
    """What the named function of a Python file returns; None for anything else."""
    path, _, function = where.rpartition(":")
    if not path.endswith(".py"):
        return None
    name = f"edgevla_user_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise BadInput(explain("Python file", f"{path}", "no such file", "check the path"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    if not callable(made := getattr(module, function, None)):
        raise BadInput(explain(f"function of {path}", function, "no such function", "check the name"))
    return made()
