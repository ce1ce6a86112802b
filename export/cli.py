"""`edgevla compress`."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from edgevla.cli.output import JSON_OPTION, megabytes, print_json, print_table, say
from edgevla.errors import Usage, explain
from export.budget import parse_duration_s
from export.request import LEAST_EXAMPLES, MODES, MOST_SEED, Request, require_files


def compress(
    teacher: Path = typer.Argument(..., metavar="TEACHER", help="Folder with config.json and model.safetensors"),
    data: Path = typer.Option(..., "--data", help="Folder of demonstrations (dataset.json and shards)"),
    out: Path = typer.Option(..., "-o", "--out", help="Bundle to write, NAME.bundle"),
    budget: str = typer.Option("7m", help="Time for distillation, such as 90s, 7m or 1h"),
    seed: int = typer.Option(0, min=0, max=MOST_SEED, help="Of everything random: targets, student, fixed noise"),
    processes: int = typer.Option(0, min=0, help="Training processes, one core each; default: all cores"),
    examples: int = typer.Option(20_480, help="Teacher answers to cache"),
    mode: str = typer.Option("distil", help="distil, or a control: demos-only, without-z"),
    work: Path = typer.Option(Path("out/work"), help="Where a stopped run goes on from"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Distil a teacher into a one-pass student, quantize it to int8 and pack a bundle.

    A run that was stopped goes on where it was when the same command is typed again.

    Example: edgevla compress examples/metaworld/teacher --data out/data -o out/student.bundle
    """
    try:
        seconds = parse_duration_s(budget)
    except ValueError as error:
        raise Usage(explain("--budget", "a duration such as 90s, 7m or 1h", budget, "give it with its unit")) from error
    if out.suffix != ".bundle":
        raise Usage(explain("--out", "NAME.bundle", str(out), "end the name with .bundle"))
    if mode not in MODES:
        raise Usage(explain("--mode", " | ".join(MODES), mode, "leave it out to distil"))
    if examples < LEAST_EXAMPLES:
        raise Usage(explain("--examples", f"at least {LEAST_EXAMPLES}, one shard", str(examples), "leave it out"))
    cores = processes or len(os.sched_getaffinity(0))
    request = Request(teacher, data, out, work, budget, seed, cores, mode, examples)
    require_files(request)
    from export.compress import compress as run_compress  # here, as torch takes seconds: what is wrong is told before

    if not as_json:
        say(f"distillation {seconds / 60:.1f} min on {cores} cores, then about 1 min for ONNX, int8 and parity")
    result = run_compress(request)
    bundle = result.bundle
    if as_json:
        rows = [row.as_dict() for row in result.parity]
        print_json({"bundle": str(bundle.path), "steps_s": dict(result.steps_s), "parity": rows})
        return
    columns = ["stage", "format", "frames", "cosine min", "cosine p1", "max error", "relative rms"]
    table = [
        (
            r.stage,
            r.format,
            r.frames,
            f"{r.cosine_min:.6f}",
            f"{r.cosine_p1:.6f}",
            f"{r.max_abs:.2g}",
            f"{r.relative_rms:.2g}",
        )
        for r in result.parity
    ]
    print_table("parity with torch", columns, table)
    manifest = bundle.manifest
    say(
        f"{bundle.path.name}: {manifest.teacher.parameters:,} -> {manifest.student.parameters:,} parameters, "
        f"int8 {megabytes(bundle.total_bytes('model/'))} (FP32 {megabytes(bundle.total_bytes('float/'))})",
        "green",
    )
