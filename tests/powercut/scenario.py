"""A life of a robot: each chapter is one real command of the real installer, traced."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.deploy.chunks import index_files
from edgevla.deploy.index import encode_index
from edgevla.install.layout import Layout, linked_id
from edgevla.install.state import read_state
from edgevla.trust.envelope import TRUST_FILE, parse_envelope
from edgevla.trust.folder import read_head
from edgevla.trust.keys import generate, load_private
from edgevla.trust.store import pinned
from tests import acting_release
from tests.powercut.boot import Expected

TICKS = "50"  # of the health window: a twentieth of a second in these releases


@dataclass(frozen=True)
class Chapter:
    """`release`: what it installs, of `Robot.ids`; `settings`: the robot.toml that comes with it over the protocol of
    `edgevla deploy`; "" where an archive is installed by hand. What it ends with: exit code, current release."""

    name: str
    arguments: tuple[str, ...]
    exit_code: int
    current: str
    release: str = ""
    settings: str = ""


class Robot:
    """A prefix, and signed releases beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.layout = folder, Layout(folder / "robot" / "edgevla")
        self._public = folder / "release.pub"
        self._first_key = generate(folder / "release.key", self._public)
        self._key = load_private(folder / "release.key")
        self._next_key = generate(folder / "next.key", folder / "next.pub")
        self._trust = pinned([self._first_key]).changed([self._next_key], ()).to_bytes()
        self.ids: dict[str, str] = {}

    def release(
        self, name: str, counter: int, behaviour: Mapping[str, Any] | None = None, trust: bytes | None = None
    ) -> None:
        extra = {} if trust is None else {TRUST_FILE: trust}
        bundle = self.folder / name
        self.ids[name] = acting_release.write_release(bundle, self._key, counter, behaviour, extra)
        files = parse_envelope(read_head(bundle).manifest).files
        self.folder.joinpath(f"{name}.index").write_bytes(encode_index(index_files(bundle, files)))

    def provision(self) -> None:
        """By the first release's own provision.py."""
        provision = self.folder / "first" / "runtime" / "provision.py"
        words = ["--key", self._public, "--fingerprint", self._first_key.fingerprint, "--prefix", self.layout.prefix]
        subprocess.run([sys.executable, str(provision), *map(str, words)], check=True, capture_output=True)
        port = self.folder / "port"
        port.touch()
        plain = acting_release.robot_toml(str(port))
        self.layout.robot.write_text(plain)
        for name in ("night", "day", "dusk"):
            (self.folder / f"{name}.toml").write_text(plain.replace("open the drawer", f"close the window by {name}"))

    def command(self, chapter: Chapter) -> list[str]:
        if chapter.settings:
            files = (self.folder / name for name in (chapter.release, f"{chapter.release}.index", chapter.settings))
            words = [str(self.layout.prefix), *map(str, files), TICKS]
            return [sys.executable, "-m", "tests.powercut.client", *words]
        options = ["--health-ticks", TICKS, "--yes"] if chapter.arguments[0] != "gc" else []
        return [str(self.layout.launcher), "--prefix", str(self.layout.prefix), *chapter.arguments, *options]

    def chapters(self) -> list[Chapter]:
        """The releases are written here too: each chapter's is there before it begins."""
        self.release("first", 1)
        self.release("second", 2)
        self.release("broken", 3, {"golden": "differs by 1"})
        self.release("sleepy", 4, {"late": 9})
        self.release("third", 5)
        self.release("lame", 6, {"late": 9})
        self.release("fourth", 7)
        self.release("keys", 8, trust=self._trust)
        return [
            self._archive("install", "first", 0, "first"),
            self._archive("upgrade", "second", 0, "second"),
            self._archive("upgrade refused by its golden vectors", "broken", 1, "second"),
            self._archive("upgrade refused by its health window", "sleepy", 1, "second"),
            Chapter("rollback", ("rollback",), 0, "first"),
            self._archive("upgrade after a rollback", "third", 0, "third"),
            Chapter("clean-up", ("gc", "--keep", "1"), 0, "third"),
            Chapter("deploy with new settings, refused", (), 1, "third", "lame", "night.toml"),
            Chapter("deploy with new settings", (), 0, "fourth", "fourth", "day.toml"),
            Chapter("the same release with other settings", (), 0, "fourth", "fourth", "dusk.toml"),
            self._archive("upgrade with a trust update", "keys", 0, "keys"),
        ]

    def _archive(self, name: str, release: str, exit_code: int, current: str) -> Chapter:
        return Chapter(name, ("install-archive", str(self.folder / release)), exit_code, current, release)

    def expected(self, chapter: Chapter) -> Expected:
        """Asked before the chapter begins."""
        settings, trust = self.layout.robot.read_bytes(), self.layout.trust.read_bytes()
        new = self.ids.get(chapter.release, "")
        after = (self.folder / chapter.settings).read_bytes() if chapter.settings else settings
        trusts = trust, self._trust if chapter.release == "keys" else trust
        return Expected(new, new in read_state(self.layout).good, (settings, after), trusts)

    def check(self, chapter: Chapter, exit_code: int, expected: Expected) -> None:
        """Raises AssertionError where the chapter did not end as it must: then nothing of it would count."""
        current = linked_id(self.layout.current)
        assert exit_code == chapter.exit_code, f"{chapter.name}: exit code {exit_code}, not {chapter.exit_code}"
        assert current == self.ids[chapter.current], f"{chapter.name}: {current} is current, not {chapter.current}"
        passed = exit_code == 0
        assert self.layout.robot.read_bytes() == expected.settings[passed], f"{chapter.name}: other settings"
        assert self.layout.trust.read_bytes() == expected.trust[passed], f"{chapter.name}: another trust store"

    def stop(self) -> None:
        """Ends the service that a chapter left running."""
        from edgevla.install.tools import tools_of

        if self.layout.robot.exists():
            tools_of(self.layout).manager.stop()


def environment() -> dict[str, str]:
    """Of the robot's commands: nothing of ours on the path."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
