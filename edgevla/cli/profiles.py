"""`edgevla profiles list`, `show` and `validate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

import profiles
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from profiles import ArmProfile, ProfileError, Target
from profiles.bridge import require_driver

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
        print_json({"targets": [t.name for t in targets], "arms": [a.name for a in arms]})
        return
    rows = [(t.name, f"{t.latency_budget_s * 1e3:g} ms", _standing(t), t.description) for t in targets]
    print_table("targets", ["name", "latency budget L", "L is", "what"], rows)
    print_table("arms", ["name", "protocol", "what"], [(a.name, a.protocol, a.description) for a in arms])


@app.command()
def show(
    name: str = typer.Argument(..., help="Name of a target or an arm, or a path to its .toml file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Print every value of a profile.

    Example: edgevla profiles show metaworld-sawyer
    """
    profile = load_any(name)
    if as_json:
        print_json({"kind": _kind(profile), **asdict(profile)})
        return
    flat = {key: value for key, value in asdict(profile).items() if not _rows(value)}
    print_table(f"{_kind(profile)} {profile.name}", ["key", "value"], [(k, _shown(v)) for k, v in flat.items()])
    for key, value in asdict(profile).items():
        if _rows(value):
            print_table(key, list(value[0]), [tuple(row.values()) for row in value])


@app.command()
def validate(path: Path = typer.Argument(..., help="A .toml file of your own"), as_json: bool = JSON_OPTION) -> None:
    """Check a profile of your own; exit code 4 and the wrong key if it is not sound.

    Example: edgevla profiles validate my-arm.toml
    """
    profile = load_any(str(path))
    if isinstance(profile, ArmProfile):
        require_driver(profile)
    if as_json:
        print_json({"kind": _kind(profile), "name": profile.name, "sound": True})
    else:
        say(f"{path}: a sound {_kind(profile)} profile, {profile.name}", "green")


def load_any(name: str) -> Target | ArmProfile:
    """A target or an arm, told apart by its name, or by its keys where it is a file. Raises ProfileError."""
    if name in profiles.list_targets():
        return profiles.load_target(name)
    if name in profiles.list_arms():
        return profiles.load_arm(name)
    if not name.endswith(".toml") and "/" not in name:
        known = ", ".join([*profiles.list_targets(), *profiles.list_arms()])
        raise ProfileError(
            f"unknown profile {name!r}\n  expected: one of {known}, or a path to a .toml file\n"
            f"  got:      {name!r}\n  to do:    see `edgevla profiles list`"
        )
    return profiles.load_file(name)


def _kind(profile: Target | ArmProfile) -> str:
    return "target" if isinstance(profile, Target) else "arm"


def _standing(target: Target) -> str:
    return "measured by check" if target.measured else "declared, not measured"


def _rows(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], dict)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
