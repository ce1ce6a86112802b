"""What is asked of `edgevla compress`, and what can be refused before torch is loaded."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from edgevla.bundle.writer import require_replaceable
from edgevla.errors import BadInput, Usage, explain

DISTIL, DIRECT = "distil", "direct"
CONTROLS = ("demos-only", "without-z")
MODES = (DISTIL, *CONTROLS)  # of a distillation
COMPRESS_MODES = (*MODES, DIRECT)
ARTIFACTS = ("dynamic-s8", "static-qdq", "nbits8", "nbits4", "trt", "fp16", "fp32")
TEACHER = "teacher folder"
WEIGHTS = ("*.safetensors", "*.bin", "*.pt*", "*.ckpt", "*.distcp", "*fsdp*")  # the loader says which it reads
FINISHED = ("dynamic-s8", "trt")  # artifacts that the last stretch of training can compute as
LEAST_EXAMPLES = 512  # one shard of targets
MOST_SEED = 2**32 - 1  # shards multiply it, and torch takes 64 bits


@dataclass(frozen=True)
class TeacherAsk:
    """The teacher, and how it is loaded. `where`: its folder, or FILE.py:FUNCTION."""

    where: str
    tokenizer: Path | None = None
    precision: str = "fp32"
    steps: int | None = None


@dataclass(frozen=True)
class StudentAsk:
    """The student that is wanted; see `export.distill.start.Wish`."""

    form: str = "auto"
    depth: float | None = None
    d_max: int | None = None
    picture: int = 128
    width: int = 320
    finish: bool = False  # the last stretch computes as the artifact will


@dataclass(frozen=True)
class ArtifactAsk:
    """What runs: one kind, or what the search decides. error_budget as typed, such as x=0.005,flips=0.01."""

    kind: str = "dynamic-s8"
    smooth: bool = True
    search: bool = False
    error_budget: str = ""
    search_budget_s: float | None = None


@dataclass(frozen=True)
class Request:
    """One compression."""

    teacher: TeacherAsk
    data: str  # folder, or FILE.py:FUNCTION
    out: Path
    work: Path
    budget: str  # as typed, e.g. "7m"
    seed: int
    processes: int
    mode: str = DISTIL
    examples: int = 20_480
    controls: bool = False
    embodiment: Path | None = None
    student: StudentAsk = field(default_factory=StudentAsk)
    artifact: ArtifactAsk = field(default_factory=ArtifactAsk)


def require_files(request: Request) -> None:
    """The files to read are there and the bundle can be written. Raises BadInput; reads and leaves nothing."""
    heads = ("config.json", "adapter_config.json", "*project.json")
    _require_source(TEACHER, request.teacher.where, heads, "check the path")
    _require_source(
        "dataset",
        request.data,
        ("dataset.json", "meta/info.json"),
        "check the path; `examples.metaworld.demos` records demonstrations",
    )
    if request.embodiment is not None and not request.embodiment.is_file():
        raise BadInput(explain("--embodiment", "a TOML file", f"no such file {request.embodiment}", "check the path"))
    folder = request.teacher.tokenizer
    if folder is not None and not (folder / "tokenizer.json").is_file():
        todo = "fetch it with the policy: it stands beside the weights of its language model"
        raise BadInput(explain("--tokenizer", f"tokenizer.json in {folder}", "no such file", todo))
    _require_destination(request.out)
    _require_work(request.work)


def require_consistent(request: Request) -> None:
    """Options that go together. Raises Usage."""
    ask = request.artifact
    if request.controls and request.mode != DISTIL:
        raise Usage(explain("--controls", "together with --mode distil", request.mode, "leave one of them out"))
    if ask.search and ask.kind != ArtifactAsk.kind:
        raise Usage(explain("--search", "no --artifact: the search decides", ask.kind, "leave one of them out"))
    if not ask.search and (ask.error_budget or ask.search_budget_s is not None):
        option = "--error-budget" if ask.error_budget else "--search-budget"
        raise Usage(explain(option, "together with --search", "no --search", "add --search, or leave it out"))
    if request.student.finish and ask.kind not in FINISHED:
        raise Usage(explain("--finish", f"--artifact {' or '.join(FINISHED)}", ask.kind, "leave --finish out"))


def is_own(where: str) -> bool:
    """Whether this is FILE.py:FUNCTION."""
    path, _, function = where.rpartition(":")
    return path.endswith(".py") and bool(function)


def _require_source(what: str, where: str, names: tuple[str, ...], todo: str) -> None:
    """A folder with one of the files, or FILE.py:FUNCTION."""
    path = where.rpartition(":")[0]
    if is_own(where):
        if not Path(path).is_file():
            raise BadInput(explain(f"{what} {where}", "a Python file", f"no such file {path}", todo))
        return
    if not any(found.is_file() for name in names for found in Path(where).glob(name)):
        raise BadInput(explain(what, f"{' or '.join(names)} in {where}", "no such file", todo))
    if what == TEACHER and not any(True for kind in WEIGHTS for _ in Path(where).glob(kind)):
        raise BadInput(explain(what, f"model.safetensors in {where}", "no such file", todo))


def _require_destination(out: Path) -> None:
    """Tried, not asked: a folder is made and removed in the nearest parent that is there."""
    dest = out.absolute()
    try:
        require_replaceable(dest)
        _try_folder(dest)
    except OSError as error:
        expected = f"a folder {dest.parent} that is there or can be made, and written to"
        raise BadInput(explain(f"no bundle can be written to {out}", expected, error, "choose another -o")) from error


def _require_work(work: Path) -> None:
    try:
        _try_folder(work.absolute() / "any")
    except OSError as error:
        expected = "a folder that is there or can be made, and written to"
        raise BadInput(explain(f"--work {work}", expected, error, "choose another --work")) from error


def _try_folder(path: Path) -> None:
    parent = next(folder for folder in path.parents if os.path.lexists(folder))
    tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=parent).cleanup()
