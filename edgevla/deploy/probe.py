"""What must be known of a robot before its installer can be started: one shell script, one round trip."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from edgevla.errors import BadInput, DeviceFault, Refused, explain
from edgevla.trust.envelope import Release

AGENT = "bin/edgevla-agent"
TRUST = "etc/trust.json"
_KEYS = ("uid", "arch", "python", "agent", "writable", "sudo", "tar")


@dataclass(frozen=True)
class Probe:
    """`sudo`: 'root' (not needed), 'free' (without a password), 'asks' (with one), 'none'."""

    uid: int
    arch: str  # uname -m
    python: tuple[int, int] | None  # of /usr/bin/env python3
    agent: bool  # an installer is there, and a key is pinned
    writable: bool  # the prefix, or the first folder above it that exists
    sudo: str
    tar: bool

    @property
    def needs_sudo(self) -> bool:
        """Whether the installer must be started by sudo."""
        return not self.writable


def check_prefix(prefix: str) -> str:
    """An absolute path of plain names. Raises BadInput."""
    if not re.fullmatch(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", prefix):
        expected, todo = "an absolute path of plain names, such as /opt/edgevla", "pass another --prefix"
        raise BadInput(explain("--prefix cannot be used", expected, repr(prefix[:200]), todo))
    return prefix


def probe_script(prefix: str) -> str:
    """The lines for `sh` on the robot; changes nothing."""
    python = "import sys; print('%d.%d' % sys.version_info[:2])"
    return f"""p={shlex.quote(prefix)}
echo uid=$(id -u)
echo arch=$(uname -m)
echo python=$(python3 -I -c {shlex.quote(python)} 2>/dev/null)
[ -x "$p/{AGENT}" ] && [ -e "$p/{TRUST}" ] && echo agent=yes || echo agent=no
d="$p"; while [ ! -e "$d" ]; do d=$(dirname "$d"); done
[ -w "$d" ] && echo writable=yes || echo writable=no
if [ "$(id -u)" = 0 ]; then echo sudo=root
elif ! command -v sudo >/dev/null; then echo sudo=none
elif sudo -n true 2>/dev/null || sudo -n "$p/{AGENT}" --help >/dev/null 2>&1; then echo sudo=free
else echo sudo=asks; fi
command -v tar >/dev/null && echo tar=yes || echo tar=no
"""


def parse_probe(text: str) -> Probe:
    """What the script printed; lines of login scripts before it are passed over. Raises DeviceFault."""
    said = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    if any(key not in said for key in _KEYS):
        expected, todo = "answers of `sh` on the robot", "use a user whose login shell is a shell"
        raise DeviceFault(explain("the robot does not answer as a Linux computer", expected, text[:100], todo))
    version = re.fullmatch(r"(\d+)\.(\d+)", said["python"])
    return Probe(
        uid=int(said["uid"]) if said["uid"].isdigit() else -1,
        arch=said["arch"],
        python=(int(version[1]), int(version[2])) if version else None,
        agent=said["agent"] == "yes",
        writable=said["writable"] == "yes",
        sudo=said["sudo"],
        tar=said["tar"] == "yes",
    )


def require_python(probe: Probe, where: object) -> None:
    """Raises DeviceFault without a usable python3."""
    if probe.python is None or probe.python < (3, 10):
        got = "none" if probe.python is None else f"{probe.python[0]}.{probe.python[1]}"
        todo = "on the robot: sudo apt-get install -y python3 python3-venv"
        raise DeviceFault(explain(f"{where} has no python3 that can be used", "3.10 or newer", got, todo))


def require_machine(probe: Probe, release: Release, where: object) -> None:
    """Raises Refused where the release was built for another computer than this one with nothing on it."""
    found = probe.arch, "{}.{}".format(*probe.python or (0, 0))
    if found != (release.arch, release.python):
        expected, todo = f"{release.arch} with Python {release.python}", "build it with --target of this robot"
        got = "{} with Python {}".format(*found)
        raise Refused(explain(f"the release is not for {where}", expected, got, todo))


def no_sudo(where: object, prefix: str, got: str) -> DeviceFault:
    """The user may not write the prefix and may not become root."""
    todo = "connect as root or as a user in the group sudo; or allow it: `user ALL=(root) NOPASSWD: ALL` by sudo visudo"
    return DeviceFault(explain(f"no rights on {where} to install into {prefix}", "root, or sudo", got, todo))
