"""Where everything lies on the robot, below one prefix: /opt/edgevla, or a private folder. Standard library only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import BadInput, explain

DEFAULT_PREFIX = Path("/opt/edgevla")
_ID = re.compile(r"[0-9a-f]{32}")


def is_release_id(text: str) -> bool:
    """32 lower-case hexadecimal digits: the first half of the sha256 of manifest.json."""
    return _ID.fullmatch(text) is not None


def require_release_id(value: object) -> str:
    """`value` as the id of a release; it becomes a name of a folder. Raises BadInput."""
    if not isinstance(value, str) or not is_release_id(value):
        todo = "take one of `edgevla deploy releases`"
        raise BadInput(explain("that is no id of a release", "32 hexadecimal digits", repr(value)[:100], todo))
    return value


@dataclass(frozen=True)
class Layout:
    """Paths below `prefix`. A pure value: nothing here touches the disk but `releases_there`."""

    prefix: Path

    @property
    def releases(self) -> Path:
        return self.prefix / "releases"

    @property
    def current(self) -> Path:
        return self.prefix / "current"

    @property
    def previous(self) -> Path:
        return self.prefix / "previous"

    @property
    def state(self) -> Path:
        return self.prefix / "state.json"

    @property
    def state_lock(self) -> Path:
        return self.prefix / "state.lock"

    @property
    def lock(self) -> Path:
        return self.prefix / "lock"

    @property
    def staging(self) -> Path:
        return self.prefix / "staging"

    @property
    def waste(self) -> Path:
        """What is being deleted: never read, emptied by the selector."""
        return self.staging / ".waste"

    @property
    def chunks(self) -> Path:
        return self.prefix / "chunks"

    @property
    def trust(self) -> Path:
        return self.prefix / "etc" / "trust.json"

    @property
    def robot(self) -> Path:
        return self.prefix / "etc" / "robot.toml"

    @property
    def robot_before(self) -> Path:
        """The settings before a deploy that is not good yet; see `edgevla.install.settings`."""
        return self.prefix / "etc" / "robot.toml.before"

    @property
    def agents(self) -> Path:
        return self.prefix / "agent"

    @property
    def agent(self) -> Path:
        """Link to the unpacked wheels of the installer."""
        return self.agents / "current"

    @property
    def launcher(self) -> Path:
        return self.prefix / "bin" / "edgevla-agent"

    @property
    def log(self) -> Path:
        return self.prefix / "log" / "deploy.jsonl"

    def release(self, release_id: str) -> Path:
        return self.releases / release_id

    def staged(self, release_id: str) -> Path:
        return self.staging / release_id

    def chunk_index(self, release_id: str) -> Path:
        return self.chunks / f"{release_id}.json"

    def folders(self) -> Iterator[Path]:
        """Every folder that must be there before anything is installed."""
        yield from (self.releases, self.staging, self.chunks, self.agents)
        yield from (self.trust.parent, self.launcher.parent, self.log.parent)

    def releases_there(self) -> list[str]:
        """Ids of the folders in `releases`, sorted."""
        try:
            return sorted(name for name in os.listdir(self.releases) if is_release_id(name))
        except FileNotFoundError:
            return []


def link_to(release_id: str) -> str:
    """What `current` and `previous` say: relative, so that the prefix can be moved or mounted elsewhere."""
    return f"releases/{release_id}"


def linked_id(link: Path) -> str | None:
    """The id that such a link names, None where there is no link or it says something else."""
    try:
        text = os.readlink(link)
    except OSError:
        return None
    name = text.removeprefix("releases/")
    return name if is_release_id(name) and text == link_to(name) else None


def agent_id(layout: Layout) -> str | None:
    """Id of the release that the installer came with, None before provisioning."""
    try:
        name = os.readlink(layout.agent)
    except OSError:
        return None
    return name if is_release_id(name) else None
