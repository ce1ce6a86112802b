"""`edgevla camera list` and `edgevla camera check`."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from edgevla.bundle import Bundle, open_bundle
from edgevla.bundle.manifest import Camera
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say, stdout
from edgevla.errors import EdgevlaError, Refused, Usage, explain
from edgevla.sensors import confirm as confirmations
from edgevla.sensors import identity
from edgevla.sensors.compare import Comparison, Image, compare, look_of, swapped_cameras
from edgevla.sensors.look import View, look
from edgevla.sensors.ready import Lack, first_lack
from edgevla.sensors.show import half_blocks, page
from edgevla.sensors.sources.base import GRAMMAR, SourceName, Wanted, parse_cameras
from edgevla.sensors.sources.file import decode_picture
from edgevla.sensors.v4l2_query import devices

app = typer.Typer(
    help="List cameras, or compare them with what a bundle was trained with.",
    epilog="Example: edgevla camera check --bundle out/student.bundle --camera front=v4l2:/dev/video0 --confirm",
    no_args_is_help=True,
)
_CAMERA = typer.Option([], "--camera", metavar="NAME=SOURCE", help=f"One per camera of the bundle: {GRAMMAR}")
_HTML = typer.Option(None, "--html", metavar="FILE", help="Write both pictures side by side there")
_PREVIEW_COLUMNS = 36
_CSI_PORTS = 8  # looked for by `list`


@app.command(name="list")
def list_cameras(as_json: bool = JSON_OPTION) -> None:
    """Print the cameras of this computer: source to type, stable id, sizes and rates.

    Example: edgevla camera list
    """
    found = [
        {"source": f"v4l2:{d.path}", "device": _device(d.path), "name": d.card, "offers": [str(o) for o in d.offers]}
        for d in devices()
    ] + _csi_cameras()
    if as_json:
        print_json({"cameras": found})
    elif not found:
        say("no V4L2 device that captures pictures, no CSI camera; see docs/cameras.md for gst: and file:")
    else:
        rows = [(c["source"], c["device"], c["name"], "\n".join(c["offers"])) for c in found]
        print_table("cameras", ["source", "stable id", "name", "offers"], rows)


@app.command()
def check(
    bundle: Path = typer.Option(..., "--bundle", help="Folder NAME.bundle"),
    camera: list[str] = _CAMERA,
    confirm: bool = typer.Option(False, "--confirm", help="Ask for each camera whether it is the same view; keep it"),
    confirmed: bool = typer.Option(False, "--confirmed", help="Open none; only say whether a person confirmed each"),
    html: Path | None = _HTML,
    settle_s: float = typer.Option(1.0, min=0.0, max=60.0, help="Let exposure settle this long, seconds"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Compare each live picture with the bundle's training frame: size, colours, orientation, view. Moves nothing.

    Example: edgevla camera check --bundle out/student.bundle --camera front=v4l2:/dev/video0 --confirm
    """
    opened = open_bundle(bundle)
    sources = parse_cameras(camera)
    if confirmed:
        _say_lack(first_lack(opened, sources), len(sources), as_json)
        return
    views = look(_wanted(opened, sources), settle_s)
    trained = _training_frames(opened)
    compared = {name: compare(name, view.image, trained) for name, view in views.items() if name in trained}
    if html is not None:
        _write_page(html, opened, views, trained, compared)
    if not as_json:
        _print(views, trained, compared)
    kept = _ask(opened, views, trained) if confirm else ()
    wrong = [f"{name}: {line}" for name, one in compared.items() for line in one.wrong]
    wrong += [f"cameras {a} and {b} are exchanged" for a, b in swapped_cameras(compared)]
    if as_json:
        print_json(_summary(opened, sources, views, compared, kept, wrong))
    if wrong:
        todo = "put it right and check again; the policy was trained with the other picture"
        raise Refused(explain("the cameras are not those of the training", "the same view", "; ".join(wrong), todo))


def _say_lack(lack: Lack | None, count: int, as_json: bool) -> None:
    """Raises Refused, Usage where something is missing; with --json the object says it and the exit code is 1."""
    if as_json:
        print_json({"kept": lack is None, "lack": asdict(lack) if lack else None})
        if lack:
            raise typer.Exit(1)
    elif lack and lack.kind in ("device", "confirmation"):
        raise Refused(lack.text)
    elif lack:
        todo = "one --camera NAME=SOURCE for each; sources: `edgevla camera list`"
        raise Usage(explain(f"camera {lack.camera} cannot be used", "a source that can be read", lack.text, todo))
    else:
        say(f"{count} cameras, each confirmed for this bundle", "green")


def _wanted(bundle: Bundle, sources: Mapping[str, SourceName]) -> dict[str, tuple[SourceName, Wanted]]:
    """What each camera must deliver. Raises Usage on a name that the bundle has not, or one that is left out."""
    cameras = {one.name: one for one in bundle.manifest.cameras}
    needed = {name for name, one in cameras.items() if one.when_missing == "refuse"}
    if not sources or not needed <= set(sources) <= set(cameras):
        expected = ", ".join(name + ("" if name in needed else " (may be absent)") for name in cameras)
        todo = "give one --camera NAME=SOURCE for each camera of the bundle"
        raise Usage(explain("--camera", expected, ", ".join(sources) or "none", todo))
    return {name: (source, wanted_of(cameras[name])) for name, source in sources.items()}


def wanted_of(camera: Camera) -> Wanted:
    """The picture that the bundle's camera must deliver."""
    return Wanted(camera.width, camera.height, camera.rate_hz)


def _training_frames(bundle: Bundle) -> dict[str, Image]:
    """Training frame by camera, RGB uint8 (h, w, 3); cameras without one are left out."""
    named = {one.camera.name: one.frame for one in bundle.cameras if one.frame}
    return {name: decode_picture(bundle.read(frame), frame) for name, frame in named.items()}


def _device(path: str) -> str:
    try:
        return identity.of_v4l2(path)
    except EdgevlaError:
        return "none"


def _csi_cameras() -> list[dict[str, Any]]:
    """The Jetson's camera modules, as its device tree names them."""
    found = []
    for port in range(_CSI_PORTS):
        if identity.has_csi_module(port):
            found.append({"source": f"csi:{port}", "device": identity.of_csi(port), "name": "CSI", "offers": []})
    return found


def _print(views: Mapping[str, View], trained: Mapping[str, Image], compared: Mapping[str, Comparison]) -> None:
    for name, view in views.items():
        pictures = [view.image, *([trained[name]] if name in trained else [])]
        say(f"{name}: live{', beside the training frame' if name in trained else ''}", "bold")
        stdout().print(half_blocks(pictures, _PREVIEW_COLUMNS))
    rows = [row for name, view in views.items() for row in _rows(name, view, compared.get(name))]
    print_table("cameras", ["camera", "what", "live", "training"], rows)
    for name in views:
        _print_found(name, compared.get(name))
    for a, b in swapped_cameras(compared):
        say(f"cameras {a} and {b} are exchanged", "bold red")


def _print_found(name: str, found: Comparison | None) -> None:
    if found is None:
        say(f"{name}: the bundle holds no training frame of it, so nothing was compared", "yellow")
        return
    for line in found.wrong:
        say(f"{name}: {line}", "bold red")
    for line in found.doubtful:
        say(f"{name}: {line}", "yellow")
    if not found.wrong and not found.doubtful:
        say(f"{name}: nothing found", "green")


def _rows(name: str, view: View, found: Comparison | None) -> list[tuple[object, ...]]:
    live, trained = look_of(view.image), found.trained if found else None
    rows: list[tuple[object, ...]] = [
        (name, "device", view.device, ""),
        ("", "rate, Hz", f"{view.rate_hz:.1f}", f"{view.mode.get('rate_hz') or 0:g} declared"),
        *(("", key, str(view.mode[key]), "") for key in _EXPOSURE if view.mode.get(key) is not None),
        ("", "size", f"{live.width} x {live.height}", f"{trained.width} x {trained.height}" if trained else "-"),
        ("", "mean R, G, B", _numbers(live.mean), _numbers(trained.mean) if trained else "-"),
        ("", "sharpness", f"{live.sharpness:.1f}", f"{trained.sharpness:.1f}" if trained else "-"),
        ("", "black, white", f"{live.black:.0%}, {live.white:.0%}", _clipped(trained)),
    ]
    if found is not None:
        gain = "cannot be told, grey" if found.swapped_gain is None else f"{found.swapped_gain:+.2f}"
        others = ", ".join(f"{other} {value:.2f}" for other, value in found.similarity_to.items())
        rows += [
            ("", "similarity", f"{found.similarity:.2f}", "1"),
            ("", "best with the frame of", others, ""),
            ("", "gain by exchanging red and blue", gain, "below 0"),
            ("", "gain by turning it", f"{found.orientation_gain:.2f} ({found.orientation})", "0 (upright)"),
        ]
    return rows


_EXPOSURE = ("stamp", "fourcc", "auto_exposure", "exposure", "gain", "auto_white_balance", "white_balance_k")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _clipped(look: Any) -> str:
    return f"{look.black:.0%}, {look.white:.0%}" if look else "-"


def _ask(bundle: Bundle, views: Mapping[str, View], trained: Mapping[str, Image]) -> tuple[str, ...]:
    """Names of the cameras that a person confirmed; kept in the state file. Questions go to stderr."""
    question = {True: "is this the same view?", False: "the bundle holds no frame of it; is it the right camera?"}
    kept = [
        name
        for name, view in views.items()
        if typer.confirm(f"{name} ({view.device}): {question[name in trained]}", default=False, err=True)
    ]
    if kept:
        confirmations.confirm(bundle, {name: views[name].device for name in kept})
    return tuple(kept)


def _summary(
    bundle: Bundle,
    sources: Mapping[str, SourceName],
    views: Mapping[str, View],
    compared: Mapping[str, Comparison],
    kept: tuple[str, ...],
    wrong: list[str],
) -> dict[str, Any]:
    cameras = {
        name: {
            "source": str(sources[name]),
            "device": view.device,
            "mode": dict(view.mode),
            "rate_hz": view.rate_hz if math.isfinite(view.rate_hz) else None,
            "live": asdict(look_of(view.image)),
            "compared": asdict(compared[name]) if name in compared else None,
            "confirmed": name in kept,
        }
        for name, view in views.items()
    }
    return {"bundle": str(bundle.path), "kept": not wrong, "wrong": wrong, "cameras": cameras}


def _write_page(
    path: Path,
    bundle: Bundle,
    views: Mapping[str, View],
    trained: Mapping[str, Image],
    compared: Mapping[str, Comparison],
) -> None:
    """Whole or not at all. Raises OSError."""
    nothing = ("the bundle holds no training frame of it, so nothing was compared",)
    sections = {
        name: (
            view.image,
            trained.get(name),
            compared[name].wrong if name in compared else (),
            compared[name].doubtful if name in compared else nothing,
        )
        for name, view in views.items()
    }
    handle, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page(f"Cameras of {bundle.manifest.name}", sections))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
