"""A real sshd, and robots behind it: private prefixes with the real installer; releases act as they are told."""

from __future__ import annotations

import json
import os
import pty
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.cli.main import run_command
from edgevla.errors import EdgevlaError
from edgevla.install.layout import Layout, linked_id
from edgevla.install.state import read_state
from edgevla.install.tools import tools_of
from edgevla.trust.keys import PrivateKey, generate, load_private
from tests.acting_release import robot_toml, write_release
from tests.loopback_sshd import SSHD, WHY_NOT, Sshd, loopback_sshd

MODEL = np.random.default_rng(5).integers(0, 256, 600_000, dtype=np.uint8).tobytes()


@pytest.fixture(scope="session")
def sshd_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if not SSHD:
        pytest.skip(WHY_NOT)
    with loopback_sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def sshd(sshd_of_the_session: Sshd) -> Sshd:
    """The daemon with its client configuration as new."""
    sshd_of_the_session.write_client_config()
    return sshd_of_the_session


@dataclass
class Desk:
    """The workstation of the tests: a key, and a folder of releases."""

    folder: Path
    key: PrivateKey
    public: Path
    made: int = field(default=0)

    def release(self, counter: int, behaviour: Mapping[str, Any] | None = None, **more: Any) -> Path:
        """A new signed bundle; `key` and `extra` as in `write_release`."""
        self.made += 1
        dest = self.folder / f"release-{self.made}.bundle"
        more.setdefault("extra", {"model/head.onnx": MODEL})
        more.setdefault("key", self.key)
        write_release(dest, counter=counter, behaviour=behaviour, **more)
        return dest


@dataclass
class RobotKit:
    """One robot behind the sshd."""

    sshd: Sshd
    prefix: Path
    desk: Desk
    settings: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.prefix)

    @property
    def current(self) -> str | None:
        return linked_id(self.layout.current)

    @property
    def good(self) -> tuple[str, ...]:
        return read_state(self.layout).good

    def active(self) -> bool:
        """The service runs."""
        return tools_of(self.layout).manager.is_active()

    def reach(self) -> list[str]:
        """Options that lead to this robot."""
        return ["--host", "robot", "--ssh-config", str(self.sshd.ssh_config), "--prefix", str(self.prefix)]

    def deploy(self, bundle: Path, *words: object) -> int:
        """Exit code of `edgevla deploy BUNDLE`."""
        return self.call(bundle, "--yes", "--health-ticks", 20, *words)

    def call(self, *words: object) -> int:
        """Exit code of `edgevla deploy WORDS` for this robot."""
        return run_command(["deploy", *map(str, words), *self.reach()])

    def start(self) -> None:
        """The service runs."""
        tools_of(self.layout).manager.start()

    def stop(self) -> None:
        """The service ends."""
        with suppress(EdgevlaError):
            tools_of(self.layout).manager.stop()

    def files(self) -> dict[str, tuple[int, int]]:
        """Every path below the prefix with size and time of change."""
        found = self.prefix.rglob("*")
        return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found if not path.is_dir()}


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: an install syncs its whole file system, and others write there too."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edgevla-deploy-", dir=place) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def desk(memory: Path) -> Desk:
    folder = memory / "desk"
    folder.mkdir()
    generate(folder / "release.key", folder / "release.pub")
    return Desk(folder, load_private(folder / "release.key"), folder / "release.pub")


@pytest.fixture(scope="session")
def settings(memory: Path) -> Iterator[Path]:
    """robot.toml; its port is a pty, which the doctor finds in order."""
    ours, theirs = pty.openpty()
    path = memory / "robot.toml"
    path.write_text(robot_toml(os.ttyname(theirs)))
    yield path
    os.close(ours)
    os.close(theirs)


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No deploy.toml of this user, and none in the working folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bare_robot(sshd: Sshd, desk: Desk, settings: Path, memory: Path) -> Iterator[RobotKit]:
    """A computer with nothing of ours on it."""
    folder = Path(tempfile.mkdtemp(prefix="bare-", dir=memory))
    kit = RobotKit(sshd, folder / "opt", desk, settings)
    yield kit
    kit.stop()


@dataclass(frozen=True)
class First:
    """The first deploy to a robot, which every other test begins with."""

    prefix: Path
    bundle: Path
    id: str
    report: dict[str, Any]


@pytest.fixture(scope="session")
def first(
    sshd_of_the_session: Sshd, desk: Desk, settings: Path, memory: Path, tmp_path_factory: pytest.TempPathFactory
) -> First:
    """Provisioned and installed through `edgevla deploy`, once; then the service is stopped."""
    kit = RobotKit(sshd_of_the_session, memory / "first" / "opt", desk, settings)
    sshd_of_the_session.write_client_config()
    said = memory / "report.json"
    with pytest.MonkeyPatch.context() as patch, said.open("w") as file:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setattr("sys.stdout", file)
        bundle = desk.release(1)
        pin = ("--key", desk.public, "--pin", desk.key.public.fingerprint, "--robot", settings)
        assert kit.deploy(bundle, *pin, "--json") == 0
    report = json.loads(said.read_text())
    kit.stop()
    return First(kit.prefix, bundle, report["id"], report)


@pytest.fixture
def robot(first: First, sshd: Sshd, desk: Desk, settings: Path, memory: Path) -> Iterator[RobotKit]:
    """A robot of the test's own with the first release, its service not running."""
    folder = Path(tempfile.mkdtemp(prefix="robot-", dir=memory))
    shutil.copytree(first.prefix, folder / "opt", symlinks=True)
    kit = RobotKit(sshd, folder / "opt", desk, settings)
    yield kit
    kit.stop()
    shutil.rmtree(folder, ignore_errors=True)
