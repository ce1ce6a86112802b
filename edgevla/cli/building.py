"""`edgevla bundle build`: a policy bundle becomes a release that a robot installs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import profiles
from edgevla.cli.output import JSON_OPTION, megabytes, print_json, print_table, say
from edgevla.cli.signing import FD_OPTION, read_passphrase
from edgevla.trust.keys import load_private
from profiles.calibrated import load_calibrated

if TYPE_CHECKING:
    from edgevla.bundle.build import Built


def build(
    bundle: Path = typer.Argument(..., help="Policy bundle, a folder NAME.bundle"),
    target: str = typer.Option(..., help="Name or .toml of the target"),
    counter: int = typer.Option(..., min=1, help="Number of the release; a robot takes none below its last good one"),
    output: Path = typer.Option(..., "-o", "--output", help="NAME.tar.zst, or a folder NAME.bundle"),
    arm: str = typer.Option("", help="Name or .toml of the arm; default: the bundle's"),
    key: Path | None = typer.Option(None, help="Private key to sign with; without it `bundle sign` does so later"),
    passphrase_fd: int | None = FD_OPTION,
    wheels: Path | None = typer.Option(None, help="Folder with the robot's wheels: nothing is fetched"),
    trust: Path | None = typer.Option(None, help="trust.json that robots take over once the release is good"),
    opencv: bool = typer.Option(True, "--opencv/--no-opencv", help="V4L2 cameras need it; GStreamer and CSI do not"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Build the release of a policy for a target: wheels, profiles, units and SBOM in one archive, signed.

    Example: edgevla bundle build out/student.bundle --target jetson-orin --counter 1 -o out/release.tar.zst
    """
    from edgevla.bundle import open_bundle
    from edgevla.bundle.build import Recipe
    from edgevla.bundle.build import build as build_release
    from edgevla.bundle.download import cache_folder

    private = load_private(key, lambda: read_passphrase(passphrase_fd, again=False)) if key else None
    device = load_calibrated(arm or open_bundle(bundle).manifest.arm, None)
    recipe = Recipe(bundle, profiles.load_target(target), device, counter, wheels, cache_folder(), trust, opencv)
    built = build_release(recipe, output, private, (lambda _: None) if as_json else _tell)
    print_json(_plain(built)) if as_json else _print(built)


def _tell(text: str) -> None:
    say(f"{text} ...", "dim")


def _plain(built: Built) -> dict[str, Any]:
    wheels = [{"name": w.name, "version": w.version, "bytes": w.bytes, "license": w.license} for w in built.wheels]
    return {
        "path": str(built.path),
        "id": built.id,
        "signed_by": built.signed_by,
        "bytes": built.bytes,
        "bytes_unpacked": built.bytes_unpacked,
        "wheels": wheels,
        "agent_wheels": [wheel.name for wheel in built.agent_wheels],
    }


def _print(built: Built) -> None:
    rows = [(wheel.name, wheel.version, megabytes(wheel.bytes), wheel.license or "not said") for wheel in built.wheels]
    print_table(f"{len(rows)} wheels", ["wheel", "version", "size", "license"], rows)
    signed = (
        f"signed by {built.signed_by}"
        if built.signed_by
        else "not signed: `edgevla bundle sign` before a robot takes it"
    )
    size = f"{megabytes(built.bytes)} for {megabytes(built.bytes_unpacked)}"
    say(f"{built.path}: {size}, release id {built.id}, {signed}", "green" if built.signed_by else "")
