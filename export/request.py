"""What is asked of `edgevla compress`, and what can be refused before torch is loaded."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgevla.bundle.writer import require_replaceable
from edgevla.errors import BadInput, explain

MODES = ("distil", "demos-only", "without-z")
LEAST_EXAMPLES = 512  # one shard of targets
MOST_SEED = 2**32 - 1  # shards multiply it, and torch takes 64 bits


@dataclass(frozen=True)
class Request:
    """One compression."""

    teacher: Path
    data: Path
    out: Path
    work: Path
    budget: str  # as typed, e.g. "7m"
    seed: int
    processes: int
    mode: str = "distil"
    examples: int = 20_480


def require_files(request: Request) -> None:
    """The files to read are there and the bundle can be written. Raises BadInput; reads and leaves nothing."""
    for name in ("config.json", "model.safetensors"):
        _require_file("teacher folder", request.teacher / name, "check the path")
    _require_file("dataset", request.data / "dataset.json", "record demonstrations first")
    _require_destination(request.out)


def _require_file(what: str, path: Path, todo: str) -> None:
    if not path.is_file():
        raise BadInput(explain(what, f"{path.name} in {path.parent}", "no such file", todo))


def _require_destination(out: Path) -> None:
    """Tried, not asked: a folder is made and removed in the nearest parent that is there."""
    dest = out.absolute()
    try:
        require_replaceable(dest)
        parent = next(folder for folder in dest.parents if os.path.lexists(folder))
        tempfile.TemporaryDirectory(prefix=f".{dest.name}.", dir=parent).cleanup()
    except OSError as error:
        expected = f"a folder {dest.parent} that is there or can be made, and written to"
        raise BadInput(explain(f"no bundle can be written to {out}", expected, error, "choose another -o")) from error
