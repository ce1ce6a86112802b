"""Any teacher from its folder: `config.json` says whose it is."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

from edgevla.errors import BadInput, Usage, explain
from export.robovlms.load import is_robovlms
from export.robovlms.load import load_folder as load_robovlms
from export.structures.teacher import SCHEMA as STRUCTURE
from export.structures.teacher import load_structure
from export.teachers.folder import SCHEMA, load_teacher
from export.teachers.interface import TeacherPolicy
from export.teachers.lerobot.folder import open_folder
from export.teachers.lerobot.peft import CONFIG as ADAPTER
from export.teachers.ours import FlowPolicy

# type in config.json -> module with `build`
ARCHITECTURES = {"act": "act", "diffusion": "diffusion", "smolvla": "smolvla", "pi0": "pi0", "pi05": "pi05"}


def load_policy(
    folder: Path, tokenizer: Path | None = None, precision: str = "fp32", steps: int | None = None
) -> TeacherPolicy:
    """A teacher with its weights, in evaluation mode.

    Args:
        folder: ours (`schema` edgevla.flow-teacher/1, edgevla.structure/1) or a policy folder of LeRobot (`type`),
            adapters included.
        tokenizer: folder with tokenizer.json, for policies that hear words and do not bring their own.
        precision: fp32 | bf16 | int8 | nf4 of the weights; the small architectures know fp32 only.
        steps: flow or diffusion steps, for architectures that can choose; None: as the folder says.

    Raises:
        BadInput: the folder is damaged, or of an architecture that we do not know.
        Usage: an option that this architecture has no use for.
    """
    if is_robovlms(folder):
        _refuse("robovlms", precision=None if precision == "fp32" else precision, steps=steps)
        return load_robovlms(folder, tokenizer).eval()
    schema = _schema(folder)
    if schema == STRUCTURE:
        _refuse("structure", precision=None if precision == "fp32" else precision, steps=steps)
        return load_structure(folder, tokenizer).eval()
    if schema == SCHEMA:
        _refuse("flow-teacher", tokenizer=tokenizer, precision=None if precision == "fp32" else precision, steps=steps)
        return FlowPolicy(load_teacher(folder)).eval()
    opened = open_folder(folder)
    if opened.type not in ARCHITECTURES:
        todo = "write an adapter of some 30 lines: docs/export.md"
        raise BadInput(explain("type in config.json", f"one of {[*ARCHITECTURES]}", repr(opened.type), todo))
    build = importlib.import_module(f"export.teachers.lerobot.{ARCHITECTURES[opened.type]}").build
    given = {
        "tokenizer": tokenizer,
        "precision": None if precision == "fp32" else precision,
        "steps": steps,
    }
    taken = inspect.signature(build).parameters
    _refuse(opened.type, **{name: value for name, value in given.items() if name not in taken})
    policy: TeacherPolicy = build(opened, **{n: v for n, v in given.items() if n in taken and v is not None})
    return policy.eval()


def _refuse(kind: str, **unused: object) -> None:
    for name, value in unused.items():
        if value is not None:
            raise Usage(explain(f"{name} for {kind}", "none, it has no use for one", f"{value}", "leave it out"))


def _schema(folder: Path) -> object:
    """Of our own folders; None for all others. Raises BadInput: no config.json that can be read."""
    path = folder / "config.json"
    if not path.is_file() and (folder / ADAPTER).is_file():
        return None
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(explain("teacher folder", "config.json", f"{folder}: {error}", "check the path")) from error
    return config.get("schema") if isinstance(config, dict) else None
