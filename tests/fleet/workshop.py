"""Five robots behind one sshd: private prefixes with the real installer, a Host of ssh's configuration each."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import EdgevlaError
from edgevla.install.layout import Layout, linked_id
from edgevla.install.state import read_state
from edgevla.install.tools import tools_of
from edgevla.trust.keys import generate, load_private
from tests.acting_release import robot_toml, write_release
from tests.loopback_sshd import Sshd, loopback_sshd

NAMES = tuple(f"arm-{number:02}" for number in range(1, 6))

Files = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Workshop:
    """The workstation's folder and the robots'."""

    folder: Path
    sshd: Sshd

    @property
    def public(self) -> Path:
        """The key that robots pin."""
        return self.folder / "release.pub"

    @property
    def fingerprint(self) -> str:
        return load_private(self.folder / "release.key").public.fingerprint

    @property
    def settings(self) -> Path:
        """robot.toml of each."""
        return self.folder / "robot.toml"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    def prefix(self, name: str) -> Path:
        return self.folder / "robots" / name / "opt"

    def bundle(self, counter: int, behaviour: Mapping[str, object] | None = None) -> tuple[Path, str]:
        """A signed release and its id."""
        dest = self.folder / f"policy-{counter}.bundle"
        return dest, write_release(dest, load_private(self.folder / "release.key"), counter, behaviour)

    def runs(self, name: str) -> str | None:
        """Id of the release that is current and marked good, with its service running."""
        layout = Layout(self.prefix(name))
        current = linked_id(layout.current) if layout.state.exists() else None
        sound = current in read_state(layout).good and tools_of(layout).manager.is_active() if current else False
        return current if sound else None

    def files(self, name: str) -> Files:
        """Every file of the robot with size and time of change."""
        found = [path for path in self.prefix(name).rglob("*") if not path.is_dir() or path.is_symlink()]
        return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


@contextmanager
def workshop(folder: Path) -> Iterator[Workshop]:
    """Robots with nothing of ours on them; at the end their services are stopped."""
    ours, theirs = pty.openpty()  # a port that the doctor finds in order; nobody talks to it
    try:
        generate(folder / "release.key", folder / "release.pub")
        with loopback_sshd(folder / "sshd") as sshd:
            block = sshd.ssh_config.read_text()
            sshd.ssh_config.write_text("\n".join(block.replace("Host robot\n", f"Host {name}\n") for name in NAMES))
            found = Workshop(folder, sshd)
            found.settings.write_text(robot_toml(os.ttyname(theirs)))
            found.inventory.write_text(_inventory(found))
            try:
                yield found
            finally:
                for name in NAMES:
                    with suppress(EdgevlaError):
                        tools_of(Layout(found.prefix(name))).manager.stop()
    finally:
        os.close(ours)
        os.close(theirs)


def _inventory(shop: Workshop) -> str:
    hosts = "".join(f"    {name}:\n      edgevla_prefix: {shop.prefix(name)}\n" for name in NAMES)
    ssh = f"    edgevla_ssh_config: {shop.sshd.ssh_config}\n"
    return f'robots:\n  vars:\n{ssh}    edgevla_options: ["--health-ticks", "20"]\n  hosts:\n{hosts}'
