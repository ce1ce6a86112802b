"""`edgevla compress`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgevla.cli.output import JSON_OPTION, megabytes, print_json, print_table, say
from edgevla.errors import Usage, explain
from export.budget import parse_duration_s
from export.estimate import estimate
from export.request import (
    ARTIFACTS,
    COMPRESS_MODES,
    LEAST_EXAMPLES,
    MOST_SEED,
    ArtifactAsk,
    Request,
    StudentAsk,
    TeacherAsk,
    require_consistent,
    require_files,
)

if TYPE_CHECKING:
    from export.compress import Result

FORMS = ("auto", "compact", "pruned")
PRECISIONS = ("fp32", "bf16", "int8", "nf4")


def compress(
    teacher: str = typer.Argument(..., help="Policy folder (ours, LeRobot's), or FILE.py:FUNCTION that returns one"),
    data: str = typer.Option(..., "--data", help="Dataset folder (ours, LeRobotDataset v3.0), or FILE.py:FUNCTION"),
    out: Path = typer.Option(Path("out/student.bundle"), "-o", "--out", help="Bundle to write, NAME.bundle"),
    embodiment: Path | None = typer.Option(None, help="TOML: what the numbers mean on the robot"),
    draft_embodiment: Path | None = typer.Option(None, help="Write that file to fill in, and do nothing else"),
    budget: str = typer.Option("7m", help="Time for distillation, such as 90s, 7m or 1h"),
    mode: str = typer.Option("distil", help="distil; direct: the teacher as it is; a control: demos-only, without-z"),
    controls: bool = typer.Option(False, "--controls", help="Distil the controls too, at equal budget, and compare"),
    student: str = typer.Option("auto", help="auto, compact (our own, small) or pruned (cut from the teacher)"),
    depth: float | None = typer.Option(None, min=0.01, max=1.0, help="Share of the layers in a pruned student"),
    d_max: int | None = typer.Option(None, min=1, help="Longest prefix, for a teacher that knows none"),
    picture: int = typer.Option(128, min=16, help="Longest side of a compact student's pictures, pixels"),
    width: int = typer.Option(320, min=64, help="Of a compact student, a multiple of 64"),
    finish: bool = typer.Option(False, "--finish", help="The last tenth of training computes as the artifact will"),
    artifact: str = typer.Option("dynamic-s8", help=" | ".join(ARTIFACTS)),
    smooth: bool = typer.Option(True, help="Fold outlier channels (SmoothQuant) where that lowers the error"),
    search: bool = typer.Option(False, "--search", help="Measure which layers become int8, against every float"),
    error_budget: str = typer.Option("", help="For --search: such as x=0.005,flips=0.01, p99 in units of the channels"),
    search_budget: str = typer.Option("", help="For --search: time to keep to, such as 5m"),
    tokenizer: Path | None = typer.Option(None, help="Folder with the teacher's tokenizer.json"),
    teacher_precision: str = typer.Option("fp32", help=f"{' | '.join(PRECISIONS)}, so that a large teacher fits"),
    teacher_steps: int | None = typer.Option(None, min=1, help="Flow or diffusion steps, where the teacher can choose"),
    seed: int = typer.Option(0, min=0, max=MOST_SEED, help="Of everything random: targets, student, fixed noise"),
    processes: int = typer.Option(0, min=0, help="Training processes, one core each; default: all cores"),
    examples: int = typer.Option(20_480, help="Teacher answers to cache"),
    work: Path = typer.Option(Path("out/work"), help="Where a stopped run goes on from"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Distil a teacher into a one-pass student, quantize it and pack a bundle.

    A run that was stopped goes on where it was when the same command is typed again.

    Example: edgevla compress examples/metaworld/teacher --data out/data -o out/student.bundle
    """
    seconds = _seconds("--budget", budget)
    searching_s = _seconds("--search-budget", search_budget) if search_budget else None
    _choice("--mode", mode, COMPRESS_MODES)
    _choice("--student", student, FORMS)
    _choice("--artifact", artifact, ARTIFACTS)
    _choice("--teacher-precision", teacher_precision, PRECISIONS)
    if out.suffix != ".bundle":
        raise Usage(explain("--out", "NAME.bundle", str(out), "end the name with .bundle"))
    if examples < LEAST_EXAMPLES:
        raise Usage(explain("--examples", f"at least {LEAST_EXAMPLES}, one shard", str(examples), "leave it out"))
    request = Request(
        teacher=TeacherAsk(teacher, tokenizer, teacher_precision, teacher_steps),
        data=data,
        out=out,
        work=work,
        budget=budget,
        seed=seed,
        processes=processes or len(os.sched_getaffinity(0)),
        mode=mode,
        examples=examples,
        controls=controls,
        embodiment=embodiment,
        student=StudentAsk(student, depth, d_max, picture, width, finish),
        artifact=ArtifactAsk(artifact, smooth, search, error_budget, searching_s),
    )
    require_consistent(request)
    require_files(request)
    if draft_embodiment is not None:
        _draft(request, draft_embodiment, as_json)
        return
    expected = estimate(request, seconds)
    if not as_json:
        say(
            f"about {expected.seconds / 60:.0f} min ({', '.join(expected.parts)}) and "
            f"{expected.memory_mb / 1000:.1f} GB of memory in all"
        )
    from export.compress import compress as run_compress  # here, as torch takes seconds: what is wrong is told before

    result = run_compress(request, progress=not as_json)
    if as_json:
        _print_json(result)
    else:
        _print(result)


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise Usage(explain(option, "a duration such as 90s, 7m or 1h", text, "give it with its unit")) from error


def _choice(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise Usage(explain(option, " | ".join(known), value, "leave it out for the usual"))


def _draft(request: Request, path: Path, as_json: bool) -> None:
    if path.exists():
        raise Usage(explain("--draft-embodiment", "a new file", f"{path} is there", "choose another name"))
    from export.compress import draft_embodiment

    path.write_text(draft_embodiment(request))
    if as_json:
        print_json({"embodiment": str(path)})
        return
    say(f"{path}: fill in what says FILL IN, check the limits, then give it as --embodiment", "green")


def _print_json(result: Result) -> None:
    print_json(
        {
            "bundle": str(result.bundle.path),
            "steps_s": dict(result.steps_s),
            "peak_mb": result.peak_mb,
            "parity": [row.as_dict() for row in result.parity],
            "controls": [row.as_dict() for row in result.controls],
            "notes": list(result.notes),
        }
    )


def _print(result: Result) -> None:
    bundle, manifest = result.bundle, result.bundle.manifest
    units = [f"{channel.name} [{channel.unit}]" for channel in manifest.channels]
    columns = ["stage", "format", "frames", "cosine min", "cosine p1", "relative rms", "largest error"]
    table = [
        (
            row.stage,
            row.format,
            row.frames,
            f"{row.cosine_min:.6f}",
            f"{row.cosine_p1:.6f}",
            f"{row.relative_rms:.2g}",
            _worst(row.max_action, units) or f"{row.max_abs:.2g}",
        )
        for row in result.parity
    ]
    print_table("parity with torch", columns, table)
    for title, head, body in result.tables:
        print_table(title, head, body)
    if result.controls:
        _print_controls(result, units)
    for note in result.notes:
        say(note)
    if result.picture is not None:
        say(f"the front of the search: {result.picture}")
    say(f"{sum(result.steps_s.values()) / 60:.1f} min, largest process {result.peak_mb / 1000:.2f} GB")
    say(
        f"{bundle.path.name}: {manifest.teacher.parameters:,} -> {manifest.student.parameters:,} parameters, "
        f"{manifest.artifact} {megabytes(bundle.total_bytes('model/'))} "
        f"(FP32 {megabytes(bundle.total_bytes('float/'))})",
        "green",
    )


def _print_controls(result: Result, units: list[str]) -> None:
    columns = ["student", *(f"{unit} to teacher" for unit in units), *(f"{unit} to demonstration" for unit in units)]
    rows = [(r.mode, *(f"{v:.3g}" for v in (*r.to_teacher, *r.to_demonstration))) for r in result.controls]
    print_table("controls: rms error over the same frames", columns, rows)


def _worst(errors: tuple[float, ...], units: list[str]) -> str:
    """Per channel, in its unit."""
    names = [unit.partition("[")[2].rstrip("]") for unit in units]
    return ", ".join(f"{value:.2g} {name}" for value, name in zip(errors, names, strict=False))
