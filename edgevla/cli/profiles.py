"""`edgevla profiles list`, `show` and `validate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

import profiles
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.doctor.board import target_here
from profiles import ArmProfile, Loaded, ProfileError, Target
from profiles.bridge import require_driver
from profiles.files import find, is_path, shipped
from profiles.layers import Origin

app = typer.Typer(
    help="List, show or validate target and arm profiles.",
    epilog="Example: edgevla profiles show metaworld-sawyer",
    no_args_is_help=True,
)


@app.command("list")
def list_profiles(as_json: bool = JSON_OPTION) -> None:
    """List the shipped targets and arms.

    Example: edgevla profiles list
    """
    targets = [profiles.load_target(name) for name in profiles.list_targets()]
    arms = [profiles.load_arm(name) for name in profiles.list_arms()]
    if as_json:
        families = {t.name: list(t.modules) for t in targets if t.family}
        print_json({"targets": [t.name for t in targets], "arms": [a.name for a in arms], "families": families})
        return
    rows = [(t.name, t.arch, t.artifact, _budget(t), _standing(t), _mode(t), t.description) for t in targets]
    print_table("targets", ["name", "machine", "artifact", "L", "L is", "power mode", "what"], rows)
    print_table("arms", ["name", "protocol", "what"], [(a.name, a.protocol, a.description) for a in arms])


@app.command()
def show(
    name: str = typer.Argument(..., help="Name of a target or an arm, or a path to its .toml file"),
    here: bool = typer.Option(False, "--here", help="Of a family, such as jetson-orin, the module that this board is"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Print every value of a profile, and the file and line that it comes from.

    Example: edgevla profiles show jetson-orin-nano-8
    """
    loaded = load_any(name)
    if here and isinstance(loaded.profile, Target):
        loaded = load_any(target_here(loaded.profile).name) if loaded.profile.family else loaded
    if as_json:
        print_json(_json(loaded))
        return
    values, profile = asdict(loaded.profile), loaded.profile
    origins = {origin.key: origin for origin in loaded.origins}
    rows = [row for key, value in values.items() if not _tables(value) for row in _rows(key, value, origins)]
    print_table(f"{loaded.kind} {profile.name}: {' on '.join(loaded.files)}", ["key", "value", "from"], rows)
    for key, value in values.items():
        if _tables(value):
            title = f"{key} ({_said(origins[key])})" if key in origins else key
            print_table(title, list(value[0]), [tuple(map(_shown, row.values())) for row in value])


@app.command()
def validate(path: Path = typer.Argument(..., help="A .toml file of your own"), as_json: bool = JSON_OPTION) -> None:
    """Check a profile of your own; exit code 4 with file, line and key if it is not sound.

    Example: edgevla profiles validate my-arm.toml
    """
    loaded = load_any(str(path))
    if isinstance(loaded.profile, ArmProfile):
        require_driver(loaded.profile)
    if as_json:
        print_json({"kind": loaded.kind, "name": loaded.profile.name, "files": loaded.files, "sound": True})
        return
    below = f", on {' on '.join(loaded.files[1:])}" if len(loaded.files) > 1 else ""
    say(f"{path}: a sound {loaded.kind} profile, {loaded.profile.name}{below}", "green")


def load_any(name: str) -> Loaded:
    """A target or an arm, told apart by its name, or by its keys where it is a file. Raises ProfileError."""
    for kind in ("target", "arm"):
        if name in shipped(kind):
            return profiles.load_with_origins(find(kind, name))
    if not is_path(name):
        known = ", ".join([*profiles.list_targets(), *profiles.list_arms()])
        raise ProfileError(
            f"unknown profile {name!r}\n  expected: one of {known}, or a path to a .toml file\n"
            f"  got:      {name!r}\n  to do:    see `edgevla profiles list`"
        )
    return profiles.load_with_origins(name)


def _json(loaded: Loaded) -> dict[str, Any]:
    origins = {origin.key: {"file": origin.file or None, "line": origin.line} for origin in loaded.origins}
    return {"kind": loaded.kind, **asdict(loaded.profile), "files": loaded.files, "origins": origins}


def _rows(key: str, value: Any, origins: Mapping[str, Origin]) -> list[tuple[str, str, str]]:
    """A row for a value; for a table, one for each value in it."""
    if isinstance(value, Mapping) and value:
        return [row for inside, item in value.items() for row in _rows(f"{key}.{inside}", item, origins)]
    return [(key, _shown(value), _said(origins.get(key)))]


def _said(origin: Origin | None) -> str:
    if origin is None or not origin.file:
        return "default"
    return f"{origin.file}, line {origin.line}" if origin.line else origin.file


def _tables(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], dict)


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value in ({}, "") else str(value)


def _budget(target: Target) -> str:
    return f"{target.latency_budget_s * 1e3:g} ms"


def _mode(target: Target) -> str:
    return f"one of {len(target.modules)} modules" if target.family else target.power_mode or "-"


def _standing(target: Target) -> str:
    return "measured by check" if target.measured else "declared"
