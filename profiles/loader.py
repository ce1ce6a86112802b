"""Read and check a profile. `name_or_path` is a shipped name ("host") or a path to your own TOML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from firmware_bridge.errors import suggest
from profiles.arm_table import read_arm
from profiles.files import CHOOSE, HERE, find, refuse, shipped
from profiles.keys import ARM, TARGET, Keys, kind_of, place, unknown
from profiles.layers import Layer, Origin, merge, origins, read_chain
from profiles.model import ArmProfile, Target
from profiles.strict import Table
from profiles.table import ProfileTable
from profiles.target_table import read_target

_HERE = HERE
_T = TypeVar("_T")


@dataclass(frozen=True)
class Loaded:
    """A profile, and where each of its values comes from."""

    kind: str  # 'target' or 'arm'
    profile: Target | ArmProfile
    files: tuple[str, ...]  # it and those it extends, by shipped name or path
    origins: tuple[Origin, ...]


def list_targets() -> list[str]:
    """Names of the shipped targets, sorted."""
    return shipped("target")


def list_arms() -> list[str]:
    """Names of the shipped arms, sorted."""
    return shipped("arm")


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name or file. Raises ProfileError."""
    return _build(_chain_of("target", find("target", str(name_or_path))), TARGET, read_target)


def load_arm(name_or_path: str | Path) -> ArmProfile:
    """The arm of that name or file. Raises ProfileError."""
    return _build(_chain_of("arm", find("arm", str(name_or_path))), ARM, read_arm)


def load_file(path: str | Path) -> Target | ArmProfile:
    """A target or an arm, told apart by its keys. Raises ProfileError."""
    return load_with_origins(path).profile


def load_with_origins(path: str | Path) -> Loaded:
    """A target or an arm with the file and line of each of its values. Raises ProfileError."""
    chain = read_chain(Path(path))
    kind = kind_of(chain[0].data)
    if not kind:
        expected = "`channels`, `protocol` and more of an arm, or `arch`, `latency_budget_s` and more of a target"
        refuse(f"{path} is neither a target nor an arm", expected, f"only {', '.join(chain[0].data)}", Table.todo)
    _require_kind(chain, kind)
    keys = ARM if kind == "arm" else TARGET
    profile = _build(chain, keys, read_arm) if kind == "arm" else _build(chain, keys, read_target)
    files = tuple(layer.label for layer in chain)
    return Loaded(kind, profile, files, tuple(origins(chain, Keys(keys.of))))


def _chain_of(kind: str, path: Path) -> tuple[Layer, ...]:
    chain = read_chain(path)
    _require_kind(chain, kind)
    return chain


def _require_kind(chain: Sequence[Layer], kind: str) -> None:
    """Raises ProfileError where a file of the chain is the profile of another kind."""
    for layer in chain:
        found = kind_of(layer.data)
        if found not in (kind, ""):
            refuse(f"{layer.path} is the profile of another kind", f"of kind {kind}", f"of kind {found}", CHOOSE)


def _build(chain: Sequence[Layer], keys: Keys, build: Callable[[Table], _T]) -> _T:
    for layer in chain:
        for at, key, missing in unknown(layer.data, keys):
            what = f"{layer.place(at, key)}: unknown key `{key}`"
            expected = f"only known keys; {place(at) or 'the profile'} may also have: {', '.join(missing) or 'nothing'}"
            refuse(what, expected, f"`{key}`", suggest(key, missing) + Table.todo)
    table = ProfileTable(str(chain[0].path), merge(chain), chain)
    value = build(table)
    table.nothing_left()
    return value
