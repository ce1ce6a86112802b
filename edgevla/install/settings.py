"""robot.toml changed together with a release: what was there before stays beside it until the release is good.

A deploy may bring new settings. Those that run belong to the release that runs; whatever ends with that release running
again ends with its settings too, or it may not start. Standard library only: the boot selector calls this.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

from edgevla.install.durable import fsync_folder, remove_name, write_file
from edgevla.install.layout import Layout
from edgevla.install.state import read_state


def replace_settings(layout: Layout, raw: bytes) -> None:
    """Write robot.toml; the one before stays beside it, the first of several. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        before = layout.robot.read_bytes()
        if before != raw and not layout.robot_before.exists():
            write_file(layout.robot_before, before)
    write_file(layout.robot, raw)


def are_new(layout: Layout) -> bool:
    """Whether no release was good with these settings yet."""
    return layout.robot_before.exists()


def new_digest(layout: Layout) -> str:
    """What state.json says of new settings when their release is marked good: both in one write. Raises OSError."""
    return hashlib.sha256(layout.robot.read_bytes()).hexdigest() if are_new(layout) else ""


def keep_settings(layout: Layout) -> None:
    """The new ones are right: state.json says so. Raises OSError."""
    remove_name(layout.robot_before)


def restore_settings(layout: Layout) -> None:
    """The ones before are right, unless the new ones were marked good; nothing to do is the rule.

    Raises OSError, BadInput when state.json is damaged.
    """
    if not are_new(layout):
        return
    if read_state(layout).settings == new_digest(layout):
        keep_settings(layout)
        return
    os.replace(layout.robot_before, layout.robot)
    fsync_folder(layout.robot.parent)
