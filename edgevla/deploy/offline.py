"""`edgevla deploy --offline FILE`, on the robot itself: the archive is data, handed to the installer that is there.

It verifies the archive with the pinned key before anything in it is used. Standard library only: no SSH, no NumPy.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.deploy.probe import AGENT, check_prefix
from edgevla.errors import BadInput, DeviceFault, explain

_EXITS = (0, 1, 2, 3, 4, 5)  # with which the installer says an outcome


def install_archive(archive: Path, prefix: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Install a signed archive or bundle; the installer's steps go to stderr as they are made. Returns its outcome.

    As root, or with sudo, which asks at the terminal. Raises BadInput (no such file), DeviceFault (no installer, or it
    says nothing that is understood).
    """
    launcher = Path(check_prefix(prefix)) / AGENT
    if not archive.exists():
        raise BadInput(explain(f"{archive} is not there", "NAME.tar.zst", "nothing", "check the path"))
    if not launcher.is_file():
        todo = "provision it once: sudo python3 -I NAME.bundle/runtime/provision.py --key release.pub (docs/deploy.md)"
        raise DeviceFault(explain("this computer has no installer", str(launcher), "nothing", todo))
    words = [str(launcher), "install-archive", str(archive.absolute())]
    if options.get("health_ticks"):
        words += ["--health-ticks", str(options["health_ticks"])]
    if options.get("accept_unknown_torque"):
        words.append("--yes")
    if not os.access(prefix, os.W_OK):
        words.insert(0, "sudo")
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    return _outcome(done.stdout, done.returncode)


def _outcome(raw: bytes, code: int) -> dict[str, Any]:
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    if isinstance(said, dict):
        return said
    what = "the installer refused" if code in _EXITS else "the installer ended"
    return {"good": False, "exit_code": code if code in _EXITS else 5, "why": f"{what}, see above", "warnings": []}
