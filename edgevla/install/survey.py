"""What this robot is and how it is: facts for a preflight, the doctor's findings, and who it says it is."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import profiles
from edgevla import __version__
from edgevla.doctor.examine import examine
from edgevla.doctor.host import Host, Wanted
from edgevla.doctor.jetson import l4t_release
from edgevla.doctor.probe import Tree
from edgevla.errors import BadInput, EdgevlaError
from edgevla.install.admission import load_trust, this_machine
from edgevla.install.layout import Layout, linked_id
from edgevla.install.lock import is_locked
from edgevla.install.releases import list_releases
from edgevla.install.robot_config import load_robot_config
from edgevla.install.state import State, read_state
from edgevla.install.tools import Tools
from profiles import ProfileError


def hello(layout: Layout, own_lock: bool) -> dict[str, Any]:
    """Who this is and what is installed; changes nothing. Raises BadInput when state.json is damaged."""
    state = read_state(layout)
    return {
        "agent": __version__,
        **asdict(this_machine()),
        "prefix": str(layout.prefix),
        "releases": list_releases(layout),
        **state_said(layout, state),
        **_trust(layout),
        "free_bytes": free_bytes(layout),
        **_robot(layout),
        "locked": not own_lock and is_locked(layout),
    }


def state_said(layout: Layout, state: State) -> dict[str, Any]:
    """What `hello` and `status` both say."""
    return {
        "current": linked_id(layout.current),
        "previous": linked_id(layout.previous),
        "good": list(state.good),
        "trial": asdict(state.trial) if state.trial else None,
        "counter_floor": state.counter_floor,
    }


def preflight(layout: Layout, target_toml: str, arm_toml: str, port: str, tools: Tools | None) -> dict[str, Any]:
    """Facts, findings of the doctor, torque. Changes nothing. Raises BadInput for a profile that is wrong."""
    with tempfile.TemporaryDirectory(prefix="edgevla-preflight-") as folder:
        target = _profile(Path(folder, "target.toml"), target_toml, profiles.load_target)
        arm = _profile(Path(folder, "arm.toml"), arm_toml, profiles.load_arm)
    host = Host(free_bytes=lambda: free_bytes(layout))
    groups = examine(host, Wanted(target=target, arm=arm, port=port or None))
    findings = [{"subject": name, **asdict(one)} for name, group in groups.items() for one in group]
    torque, why = tools.torque(None) if tools else ("unknown", "this robot has no settings yet (robot.toml)")
    return {"facts": facts(layout, host.tree), "findings": findings, "torque": torque, "why": why}


def facts(layout: Layout, tree: Tree) -> dict[str, Any]:
    """What is judged on the workstation; None: not known."""
    glibc = " ".join(platform.libc_ver()).split(" ")
    memory = [line.split()[1] for line in tree.text("proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    return {
        **asdict(this_machine()),
        "l4t": l4t_release(tree.text("etc/nv_tegra_release")),
        "glibc": glibc[1] if glibc[0] == "glibc" else None,
        "kernel": platform.release(),
        "board_model": tree.text("proc/device-tree/model") or None,
        "compatible": [one for one in tree.text("proc/device-tree/compatible").split("\0") if one],
        "memory_mb": int(memory[0]) // 1024 if memory and memory[0].isdigit() else None,
        "free_bytes": free_bytes(layout),
        "time_unix_s": time.time(),
    }


def free_bytes(layout: Layout) -> int:
    """Of the disk that the prefix is on, or would be."""
    folder = layout.prefix
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _trust(layout: Layout) -> dict[str, Any]:
    """Keys by id with their fingerprints; none before provisioning."""
    if not os.path.lexists(layout.trust):
        return {"keys": {}, "revoked": [], "trust_serial": None}
    store = load_trust(layout)
    keys = {name: key.fingerprint for name, key in store.valid.items()}
    return {"keys": keys, "revoked": list(store.revoked), "trust_serial": store.serial}


def _robot(layout: Layout) -> Mapping[str, Any]:
    """robot.toml as a table, empty where there is none; why where it cannot be read."""
    if not layout.robot.exists():
        return {"robot": {}, "robot_error": ""}
    try:
        return {"robot": load_robot_config(layout.robot).as_dict(), "robot_error": ""}
    except EdgevlaError as error:
        return {"robot": {}, "robot_error": str(error)}


def _profile(path: Path, text: str, load: Any) -> Any:
    """The profile of that text, None for none. Raises BadInput."""
    if not text:
        return None
    path.write_text(text)
    try:
        return load(path)
    except ProfileError as error:
        raise BadInput(str(error)) from None
