"""Units and udev rules of a release in their places of the system. Standard library only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from edgevla.errors import BadInput, explain

SERVICE, RULES = "edgevla.service", "99-edgevla.rules"
_TOOL_S = 60.0
# Where each file of runtime/units goes. The names are fixed: a release can place nothing else.
PLACES = {
    SERVICE: "etc/systemd/system/edgevla.service",
    "edgevla-boot.service": "etc/systemd/system/edgevla-boot.service",
    "edgevla-can.service": "etc/systemd/system/edgevla-can.service",
    RULES: "etc/udev/rules.d/99-edgevla.rules",
    "edgevla.sysusers": "etc/sysusers.d/edgevla.conf",
}


def place_units(folder: Path, root: Path, only: Collection[str] = tuple(PLACES)) -> bool:
    """Copy what is in `folder` to its place below `root`, remove what it lacks; True when something changed.

    only: names of files that are looked at. Each file is written beside its place and renamed. Raises BadInput on a
    file that has no place, or cannot be read; OSError.
    """
    return _place(read_units(folder), root, only)


def remove_units(root: Path) -> bool:
    """Nothing of any release is in its place any more; True when something was. Raises OSError."""
    return _place({}, root, tuple(PLACES))


def read_units(folder: Path) -> dict[str, bytes]:
    """Files of runtime/units by name. Raises BadInput."""
    try:
        found = {entry.name: entry.read_bytes() for entry in sorted(folder.iterdir())}
    except OSError as error:
        what, todo = f"{folder} cannot be read", "install the release again"
        raise BadInput(explain(what, "the units of a release", error.strerror or error, todo)) from None
    if strange := sorted(set(found) - set(PLACES)):
        expected, todo = ", ".join(PLACES), "build the bundle again, or update the installer"
        raise BadInput(explain(f"{folder} holds what has no place", expected, ", ".join(strange), todo))
    return found


def _place(found: Mapping[str, bytes], root: Path, only: Collection[str]) -> bool:
    changed = False
    for name, place in PLACES.items():
        if name not in only:
            continue
        target = root / place
        before = target.read_bytes() if target.is_file() else None
        if name not in found:
            target.unlink(missing_ok=True)
        elif before != found[name]:
            _replace(target, found[name])
        changed |= before != found.get(name)
    return changed


def _replace(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.new")
    fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write(fd, content)
        os.fchmod(fd, 0o644)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(staging, target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def belong_to(prefix: Path, root: Path) -> bool:
    """The service that is placed is that of this prefix: another one on this computer is never touched."""
    try:
        text = (root / PLACES[SERVICE]).read_text("utf-8", "replace")
    except OSError:
        return False
    return f"ConditionPathExists={prefix}/current" in text.splitlines()


def bring_back(units: Path, prefix: Path, root: Path) -> bool:
    """Those of the release in `units` in place of another release's, and read by systemd and udev; True when changed.

    For the boot selector after it returned: what a failed release placed would start the one before in its manner.
    Raises BadInput, OSError.
    """
    if not units.is_dir() or not belong_to(prefix, root) or not place_units(units, root):
        return False
    commands = [["systemctl", "daemon-reload"], *([["udevadm", "control", "--reload"]] if udev_listens(root) else [])]
    for command in commands:
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # the next boot reads them
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, timeout=_TOOL_S, check=False)
    return True


def udev_listens(root: Path) -> bool:
    """Not in a container: its ports have the names that it was given."""
    return (root / "run" / "udev" / "control").exists()
