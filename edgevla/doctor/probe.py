"""Read-only access to a machine's files and tools, under a root that a test can choose."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_COMMAND_S = 5.0  # a tool that takes longer is as good as absent
_MAX_BYTES = 1024 * 1024  # of one file; a larger read of /proc/sys is refused (KMALLOC_MAX_SIZE)


@dataclass(frozen=True)
class Reading:
    """`text`: what was read, None with a `reason` when it could not be."""

    text: str | None
    reason: str = ""


@dataclass(frozen=True)
class Tree:
    """The file system below `root`. Paths are written without a leading slash: 'sys/kernel/realtime'."""

    root: Path = Path("/")

    def path(self, path: str) -> Path:
        """Where that file really lies."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> Reading:
        """The text of a file, stripped of white space and the NUL that ends device-tree strings; `.gz` is unpacked."""
        try:
            with self.path(path).open("rb") as file:
                data = file.read(_MAX_BYTES)
            if path.endswith(".gz"):
                data = gzip.decompress(data)
        except (OSError, EOFError, ValueError) as error:  # ValueError: a name made from nonsense in another file
            return Reading(None, f"/{path.lstrip('/')}: {getattr(error, 'strerror', None) or error}")
        return Reading(data.decode(errors="replace").strip("\0 \t\r\n"))

    def text(self, path: str, default: str = "") -> str:
        """The text, or `default` where it cannot be read: for what is only said, never for what is judged."""
        text = self.read(path).text
        return default if text is None else text

    def number(self, path: str) -> int | None:
        """A whole number; None where the file cannot be read or holds something else."""
        text = self.text(path)
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else None

    def names(self, path: str, pattern: str = ".*") -> list[str]:
        """Names in a folder that match the whole pattern, numbers in their order; empty where there is none."""
        try:
            found = [name for name in os.listdir(self.path(path)) if re.fullmatch(pattern, name)]
        except OSError:
            return []
        return sorted(found, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])

    def link(self, path: str) -> str | None:
        """What a symbolic link says, None where there is none or it may not be read."""
        try:
            return os.readlink(self.path(path))
        except OSError:
            return None

    def resolve(self, path: str) -> str:
        """The path with links followed, as seen from the root: '/dev/serial/by-id/x' -> '/dev/ttyUSB0'."""
        inside = os.path.relpath(os.path.realpath(self.path(path)), os.path.realpath(self.root))
        return "/" + inside

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of that name."""
        return os.path.exists(self.path(path))


def run_tool(argv: Sequence[str]) -> Reading:
    """What a tool prints; a reason when it is not installed, fails or takes too long."""
    where = shutil.which(argv[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if where is None:
        return Reading(None, f"{argv[0]} is not installed")
    try:
        done = subprocess.run([where, *argv[1:]], capture_output=True, text=True, timeout=_COMMAND_S, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Reading(None, f"{argv[0]}: {error}")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Reading(None, f"{argv[0]}: {lines[0]}")
    return Reading(done.stdout)


def core_list(text: str) -> frozenset[int]:
    """Cores of a kernel list: '0-2,5' -> {0, 1, 2, 5}; words such as 'managed_irq' or '(null)' are no cores."""
    cores: set[int] = set()
    for part in text.replace("\n", ",").split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match:
            cores.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(cores)


def cores_said(cores: frozenset[int] | set[int]) -> str:
    """'0-2,5', or 'none'."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts) or "none"


def boot_option(cmdline: str, name: str) -> str | None:
    """The value of a kernel boot option, '' for one without value, None when it was not given. The last one counts."""
    value = None
    for word in cmdline.split():
        key, _, said = word.partition("=")
        if key == name:
            value = said
    return value
