"""One model that all engines run: its graphs by stage, its torch module, and the frames it is fed.

A case is a folder: `case.json`, `STAGE.FORM.onnx` (fp32, int8, fp16), `nncf.xml` and `nncf.bin`, `frames.npz`. Graphs
that stand elsewhere already (bench/smolvla) are not copied: `shared` names their folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.errors import BadInput, explain

Array = np.ndarray[Any, np.dtype[Any]]
Feeds = dict[str, Array]
FORMS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Case:
    """What is measured. `module`: how `bench.peers.modules` builds it in torch; empty where it cannot."""

    name: str
    parameters: int
    note: str
    stages: tuple[str, ...]  # in the order they run for every chunk
    outputs: Mapping[str, tuple[str, ...]]  # of each stage
    actions: int  # A: columns of the chunk that are compared
    artifact: str  # what our int8 is
    module: Mapping[str, Any] = field(default_factory=dict)
    shared: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)  # form -> why it could not be made

    def graph(self, folder: Path, stage: str, form: str) -> Path:
        """Raises BadInput: that form is not there, with why."""
        for place in (folder, Path(self.shared) if self.shared else folder):
            if (path := place / f"{stage}.{form}.onnx").is_file():
                return path
        got = self.failed.get(form, "no such file")
        raise BadInput(explain(f"{stage}.{form}.onnx of {self.name}", "a graph", got, "see why; then make it again"))

    def graphs(self, folder: Path, form: str) -> dict[str, bytes]:
        return {stage: self.graph(folder, stage, form).read_bytes() for stage in self.stages}


def load(folder: Path) -> Case:
    """Raises BadInput: no case in that folder."""
    try:
        told = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        told["stages"] = tuple(told["stages"])
        told["outputs"] = {name: tuple(names) for name, names in told["outputs"].items()}
        return Case(**told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(explain(f"{folder}", "a case.json of bench.peers", error, "remove the folder")) from None


def save(folder: Path, case: Case) -> None:
    """Last of a case's files: a folder with it is whole."""
    write(folder / "case.json", json.dumps(asdict(case), indent=1).encode())


def save_frames(folder: Path, frames: Mapping[str, Array]) -> None:
    """Arrays (F, ...): frame i is row i of each."""
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **frames)  # type: ignore[arg-type]
    write(folder / "frames.npz", buffer.getvalue())


def load_frames(folder: Path) -> list[Feeds]:
    """Feeds of batch 1, frame by frame."""
    with np.load(folder / "frames.npz") as file:
        stacked = dict(file)
    count = len(next(iter(stacked.values())))
    return [{name: np.ascontiguousarray(rows[i : i + 1]) for name, rows in stacked.items()} for i in range(count)]


def once(path: Path, make: Callable[[], bytes]) -> None:
    if not path.is_file():
        write(path, make())


def write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
