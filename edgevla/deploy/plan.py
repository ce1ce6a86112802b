"""What one call means: what was typed, what deploy.toml adds, what is still missing. Nothing is guessed silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import profiles
from edgevla.deploy.destination import Destination, parse_destination
from edgevla.deploy.local import require_there, target_of
from edgevla.deploy.probe import check_prefix
from edgevla.deploy.remembered import KEYS, Remembered, recall, targets_known
from edgevla.errors import Usage, explain

DEFAULT_PREFIX = "/opt/edgevla"


@dataclass(frozen=True)
class Reach:
    """How to reach one robot."""

    where: Destination
    prefix: str
    ssh_config: Path | None


@dataclass(frozen=True)
class Plan:
    """Everything that was said, by the person or by the file; '' and None where nobody did."""

    target: str  # name; '' where only a robot is meant
    targets: tuple[str, ...]  # the target, and the modules of a family
    typed: Remembered
    known: Remembered = field(default_factory=Remembered)
    file: Path | None = None  # that `known` stands in
    remembers: bool = True  # deploy.toml is read, and written when it was kept

    def value(self, key: str) -> str:
        """What was typed, else what the file says."""
        return str(getattr(self.typed, key) or getattr(self.known, key))

    def taken(self, keys: Sequence[str] = KEYS) -> str:
        """Which values come from the file, in words; '' for none."""
        found = [key for key in keys if getattr(self.known, key) and not getattr(self.typed, key)]
        said = ", ".join(f"{key} {getattr(self.known, key)}" for key in found)
        return f"{said} (from {self.file})" if said else ""

    def reach(self) -> Reach:
        """The robot. Raises Usage where nobody said which."""
        if not self.value("host"):
            got = f"no --host, and no deploy.toml names one for {self.target or 'a target'}"
            todo = f"edgevla deploy --target {self.target or 'NAME'} --host USER@HOST; it is remembered afterwards"
            raise Usage(explain("which robot?", "an address", got, todo))
        config = self.value("ssh_config")
        prefix = check_prefix(self.value("prefix") or DEFAULT_PREFIX)
        return Reach(parse_destination(self.value("host")), prefix, Path(config) if config else None)

    def bundle(self) -> Path:
        """The archive, bundle or folder of bundles. Raises Usage where nobody said which."""
        if not self.value("bundle"):
            got = f"no BUNDLE, and no deploy.toml names one for {self.target}"
            todo = f"edgevla deploy NAME.tar.zst --target {self.target}; it is remembered afterwards"
            raise Usage(explain("which bundle?", "an archive, a bundle's folder or a folder of them", got, todo))
        return Path(self.value("bundle"))

    def key(self) -> Path | None:
        """Public key that the bundle must be signed by."""
        return Path(self.value("key")) if self.value("key") else None

    def to_remember(self) -> Remembered:
        """What the file says after this was kept; paths absolute, as the file lies elsewhere."""

        def path(key: str) -> str:
            return str(Path(self.value(key)).expanduser().absolute()) if self.value(key) else ""

        return Remembered(self.value("host"), path("bundle"), path("key"), self.value("prefix"), path("ssh_config"))


def plan_install(typed: Remembered, target: str, remembers: bool = True) -> Plan:
    """What an install means. A target that nobody named is the bundle's, or the only one that deploy.toml knows.

    Not `remembers`: what was typed is all that counts.

    Raises Usage, BadInput, ProfileError.
    """
    if not target and typed.bundle:
        require_there(Path(typed.bundle))
        target = target_of(Path(typed.bundle))
    if not remembers:
        names = _names(target or _only_target(()))
        return Plan(names[0], names, typed, remembers=False)
    return _with_file(typed, target or _only_target(targets_known()))


def plan_look(typed: Remembered, target: str) -> Plan:
    """Which robot a status, a rollback, ... means. Raises Usage, BadInput, ProfileError."""
    if typed.host and not target:
        return Plan("", (), typed)
    return _with_file(typed, target or _only_target(targets_known()))


def _with_file(typed: Remembered, target: str) -> Plan:
    names = _names(target)
    known, file = recall(names[0])
    return Plan(names[0], names, typed, known, file)


def _names(target: str) -> tuple[str, ...]:
    """The target's own name and its modules; a bundle may be for a target that only it knows."""
    if target in profiles.list_targets() or target.endswith(".toml") or "/" in target:
        found = profiles.load_target(target)
        return (found.name, *found.modules)
    return (target,)


def _only_target(known: Sequence[str]) -> str:
    if len(known) == 1:
        return known[0]
    got = f"none; deploy.toml knows {', '.join(known)}" if known else "none, and no deploy.toml names one"
    todo = "pass --target NAME and --host USER@HOST; the names: `edgevla profiles list`"
    raise Usage(explain("which target?", "--target", got, todo))
