"""Programs of this machine that a stand-in needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.stand_in.steps import NotHere

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "systemd-nspawn": "systemd-container",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "cpio": "cpio",
}


# What stands in for a computer of its own goes ahead of what else this one does.
AHEAD = ("nice", "-n", "-10")
_AUTOGROUP = "-10"


def ahead(pid: int) -> None:
    """The same for the session that `pid` leads: where Linux groups by session, `nice` counts within one only."""
    with contextlib.suppress(OSError):  # a kernel without such groups, or not root
        Path(f"/proc/{pid}/autogroup").write_text(_AUTOGROUP)


def provide(*programs: str) -> None:
    """Install what is missing, as root on Debian. Raises NotHere naming the line that installs it."""
    packages = sorted({PACKAGES[name] for name in programs if shutil.which(name) is None})
    if not packages:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotHere(f"not installed: {' '.join(packages)} ({line})")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (line.split(), ["apt-get", "update", "-q"], line.split()):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0 and command[1] == "install":
            return
    raise NotHere(f"apt-get could not install {' '.join(packages)}: {done.stderr.strip()[-300:]}")


def run(*command: object, stdin: bytes | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Standard output. Raises NotHere with the last words of a program that failed."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, input=stdin, env={**os.environ, **(environment or {})}, capture_output=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise NotHere(f"{words[0]} ended with {done.returncode}: {said[-600:]}")
    return done.stdout.decode(errors="replace")


def need_root() -> None:
    """Raises NotHere."""
    if os.geteuid() != 0:
        raise NotHere("needs root: the root file system is made and started as such")
