"""`edgevla bundle show` and `edgevla bundle verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from edgevla.bundle import Bundle, open_bundle
from edgevla.bundle.manifest import Camera
from edgevla.bundle.parts import KnownWords
from edgevla.bundle.verify import Verdict, verify_golden, verify_graphs
from edgevla.cli.output import JSON_OPTION, kept, megabytes, print_json, print_table, say
from edgevla.errors import Refused

app = typer.Typer(
    help="Show or verify a bundle.", epilog="Example: edgevla bundle show out/student.bundle", no_args_is_help=True
)
# Text and no Path: Path("") is the current folder, and an empty path shall be refused.
PATH_ARGUMENT = typer.Argument(..., help="Folder NAME.bundle")


@app.command()
def show(path: str = PATH_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Print what is in a bundle, after every hash was found right.

    Example: edgevla bundle show out/student.bundle
    """
    bundle = open_bundle(path)
    if as_json:
        print_json(_summary(bundle))
        return
    manifest = bundle.manifest
    print_table(f"{manifest.name} · {path}", ["what", "value"], _facts(bundle))
    rows = [(c.name, c.kind, c.space, c.frame, c.unit, c.scale, c.minimum, c.maximum) for c in manifest.channels]
    print_table("action", ["channel", "kind", "space", "frame", "unit", "scale", "minimum", "maximum"], rows)
    print_table("files", ["file", "size", "sha256"], _file_rows(bundle))


@app.command()
def verify(path: str = PATH_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Check every hash, load every graph, and compare every golden vector with what this machine computes.

    Example: edgevla bundle verify out/student.bundle
    """
    bundle = open_bundle(path)
    verdicts = [_hashes(bundle), *verify_graphs(bundle)]
    if all(verdict.kept for verdict in verdicts):  # graphs of another interface cannot run the golden vectors
        verdicts += verify_golden(bundle)
    broken = [verdict for verdict in verdicts if not verdict.kept]
    if as_json:
        print_json({"bundle": str(path), "kept": not broken, "verdicts": [asdict(v) for v in verdicts]})
    else:
        rows = [(v.name, v.expected, v.got, kept(v.kept)) for v in verdicts]
        print_table(f"verify {path}", ["what", "expected", "got", ""], rows)
    if broken:
        first = f"{broken[0].name}: {broken[0].got}"
        raise Refused(f"{len(broken)} of {len(verdicts)} checks are broken, the first: {first}")
    if not as_json:
        say(f"{len(verdicts)} checks kept", "green")


def _hashes(bundle: Bundle) -> Verdict:
    count = len(bundle.manifest.files)
    return Verdict("sha256 of every file", f"{count} files", f"{count} files, {megabytes(bundle.total_bytes())}", True)


def _summary(bundle: Bundle) -> dict[str, Any]:
    sizes = {
        "all": bundle.total_bytes(),
        "model": bundle.total_bytes("model/"),
        "float": bundle.total_bytes("float/"),
    }
    return {"path": str(bundle.path), "bytes": sizes, "manifest": asdict(bundle.manifest)}


def _facts(bundle: Bundle) -> list[tuple[str, object]]:
    m = bundle.manifest
    return [
        ("artifact", f"{m.artifact}, opset {m.opset}, IR {m.ir_version}"),
        ("made for", f"target {m.target}, arm {m.arm}"),
        ("made with", m.created_with),
        (
            "timing",
            f"T = {m.timing.period_s * 1e3:g} ms, H = {m.timing.horizon} ticks, d_max = {m.timing.d_max}",
        ),
        *((f"camera {camera.name}", _camera(camera)) for camera in m.cameras),
        ("state", ", ".join(f"{s.name} [{s.unit}]" for s in m.state)),
        ("words", _words(bundle)),
        ("teacher", f"{m.teacher.name}, {m.teacher.parameters:,} parameters"),
        ("student", f"{m.student.name}, {m.student.parameters:,} parameters"),
        (
            "graphs",
            f"{megabytes(bundle.total_bytes('model/'))}, in float {megabytes(bundle.total_bytes('float/'))}",
        ),
        ("golden vectors", len(bundle.golden)),
        ("evidence", ", ".join(bundle.evidence()) or "none"),
    ]


def _camera(camera: Camera) -> str:
    size = f"{camera.width} x {camera.height}"
    if camera.fit != "exact":
        size += f", to {camera.input_width} x {camera.input_height} ({camera.fit})"
    absent = ", may be absent" if camera.when_missing == "blank" else ""
    return f"{size}, {camera.colour}, {camera.rate_hz:g} Hz{absent}"


def _words(bundle: Bundle) -> str:
    words, most = bundle.words, bundle.manifest.text.max_tokens
    if isinstance(words, KnownWords):
        return f"{len(words.tokens)} words, at most {most} an instruction"
    others = f"a tokenizer for others, up to {most} tokens" if words.tokenizer else "no others"
    return f"{len(words.known)} known instructions, {others}"


def _file_rows(bundle: Bundle) -> list[tuple[str, str, str]]:
    return [(name, megabytes(entry.bytes), entry.sha256[:16]) for name, entry in bundle.manifest.files.items()]
