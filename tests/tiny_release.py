"""A release of the tiny bundle for this very computer, with tiny wheels around the real wheel of edgevla.

Small enough to build in a test, and whole: the real builder, archive, signature, units and profiles.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import profiles
from edgevla.bundle.build import Built, Recipe, build
from edgevla.trust.keys import PrivateKey, generate, load_private
from profiles.model import Target
from tests.tiny_wheels import write_lock, write_tiny_wheels


@dataclass(frozen=True)
class Workshop:
    """What releases are built from. `wheels` and `locks` are folders, `public` is a PEM file."""

    source: Path
    wheels: Path
    locks: Path
    key: PrivateKey
    public: Path

    def recipe(self, counter: int = 1, **changes: Any) -> Recipe:
        arm = profiles.load_arm("metaworld-sawyer")
        cache = self.wheels.parent / "no cache"
        made = Recipe(self.source, this_computer(), arm, counter, self.wheels, cache, locks=self.locks)
        return replace(made, **changes)

    def build(self, output: Path, counter: int = 1, key: PrivateKey | None = None, **changes: Any) -> Built:
        """Signed by the workshop's key unless another is given."""
        return build(self.recipe(counter, **changes), output, key or self.key)


def this_computer() -> Target:
    """The target host, whatever Python and processor run the test."""
    python = "{}.{}".format(*sys.version_info)
    return replace(profiles.load_target("host"), python=python, arch=platform.machine())


def make_workshop(folder: Path, source: Path) -> Workshop:
    """Wheels, locks and a new key below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    wheels = write_tiny_wheels(folder / "wheels")
    locks = write_lock(folder / "locks", "cp{}{}".format(*sys.version_info), wheels)
    private, public = folder / "release.key", folder / "release.pub"
    generate(private, public)
    return Workshop(source, folder / "wheels", locks, load_private(private), public)
