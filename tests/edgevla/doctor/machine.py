"""Other machines as files: a text per machine, unpacked into a tree that the doctor reads instead of this computer.

The trees are written from what the kernel, L4T, Raspberry Pi OS and iproute2 document and print; they were not captured
on a board. `machines/*.txt`: `== path` starts a file, `-> path target` is a symbolic link, `$ command` starts what that
command prints; `#` before the first of them is a comment.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgevla.doctor.examine import examine
from edgevla.doctor.finding import Finding
from edgevla.doctor.grant import Grant
from edgevla.doctor.host import Host, User, Wanted
from edgevla.doctor.probe import Reading, Tree
from profiles import load_target

MACHINES = Path(__file__).parent / "machines"
GRANTED = Grant(80, True, 99_000, 1, ())
REFUSED = Grant(
    0, False, 0, 5, ("mlockall (Cannot allocate memory)", "SCHED_FIFO priority 80 (Operation not permitted)")
)
ROBOT = User(1000, frozenset({1000, os.getegid()}))  # in the group of the ports
ARCH = {"orin": "aarch64", "pi5": "aarch64", "x86-rt": "x86_64"}


@dataclass
class Parts:
    """Files, links and command outputs of one machine."""

    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)


def parts(name: str) -> Parts:
    """Read machines/NAME.txt."""
    found = Parts()
    into, key = found.files, ""
    for line in (MACHINES / f"{name}.txt").read_text().splitlines():
        if line.startswith("== "):
            into, key = found.files, line[3:]
            into[key] = ""
        elif line.startswith("$ "):
            into, key = found.commands, line[2:]
            into[key] = ""
        elif line.startswith("-> "):
            path, target = line[3:].split()
            found.links[path] = target
        elif key:
            into[key] += line + "\n"
    return found


def write(root: Path, machine: Parts) -> None:
    """Unpack it below root."""
    for path, text in machine.files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if path.startswith("dev/"):
            file.touch()
            file.chmod(0o660)
            continue
        file.write_bytes(gzip.compress(text.encode()) if path.endswith(".gz") else text.encode())
    for path, target in machine.links.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)


def build(
    name: str,
    root: Path,
    *,
    files: dict[str, str] | None = None,
    without: Sequence[str] = (),
    commands: dict[str, str | None] | None = None,
    grant: Grant | str = GRANTED,
    free_bytes: int = 20_000_000_000,
    user: User = ROBOT,
) -> Host:
    """The machine of that name with other files, without some, with other command outputs (None: not installed)."""
    machine = parts(name)
    machine.files.update(files or {})
    for path in without:
        machine.files.pop(path, None) or machine.links.pop(path)
    write(root, machine)
    outputs: dict[str, str | None] = {**machine.commands, **(commands or {})}

    def run(argv: Sequence[str]) -> Reading:
        text = outputs.get(argv[0])
        return Reading(None, f"{argv[0]} is not installed") if text is None else Reading(text)

    return Host(Tree(root), run, ARCH[name], user, lambda: free_bytes, lambda *_: grant)


def wanted(target: str = "jetson-orin", port: str | None = None) -> Wanted:
    """What shall run there."""
    return Wanted(load_target(target), None, port)


def by_name(host: Host, what: Wanted) -> dict[str, Finding]:
    """Every finding, by its name. No two have the same."""
    found = [finding for group in examine(host, what).values() for finding in group]
    names = {finding.name: finding for finding in found}
    assert len(names) == len(found), [finding.name for finding in found]
    return names
