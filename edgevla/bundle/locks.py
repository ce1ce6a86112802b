"""The robot's locks: exact versions and the sha256 of every wheel, per Python, in groups by what a robot has.

`locks/cp310/base.txt` and the others are requirement files as pip reads them, written by `scripts/lock_robot.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import BadInput, Refused, explain

FOLDER = Path(__file__).parent / "locks"
ARCHES = ("aarch64", "x86_64")
# What each group is for, as requirements; the lock adds what these need in turn.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "base": (
        "numpy",
        "onnxruntime",
        "pyserial",
        "typer",
        "rich",
        "cryptography",
        "mcap",
        "zstandard",
        "tomli;python_version<'3.11'",
    ),
    "can": ("python-can", "canopen"),  # the protocol cia402, and CAN adapters that are no SocketCAN interface
    "camera": ("opencv-python-headless",),  # V4L2; cameras through GStreamer and CSI do without
    "tokenizer": ("tokenizers",),  # a policy of tokens that takes instructions it does not know yet
}
# What a package asks for and a robot shall not have: it fetches, and a robot never does.
NOT_NEEDED: Mapping[str, frozenset[str]] = {"tokenizers": frozenset({"huggingface-hub"})}
# What the installer needs before a release is trusted: signatures, archives, TOML on Python 3.10.
AGENT_ROOTS = ("cryptography", "zstandard", "tomli")

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!_-]+)((?:\s+--hash=sha256:[0-9a-f]{64})+)")


@dataclass(frozen=True)
class Pin:
    """One exact version and the wheels that are it."""

    name: str  # normalised
    version: str
    hashes: frozenset[str]

    def line(self) -> str:
        """As pip reads it."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{value}" for value in sorted(self.hashes))])


def load_lock(cp: str, groups: Iterable[str], folder: Path = FOLDER) -> dict[str, Pin]:
    """Normalised name -> pin of these groups ('base' is always meant), for the Python 'cp310'.

    Raises Refused where there is no lock for that Python, BadInput for a line that is no pin.
    """
    if not (folder / cp).is_dir():
        known = ", ".join(sorted(path.name for path in folder.glob("cp*")))
        todo = "lock it with scripts/lock_robot.py, or choose a target with one of these"
        raise Refused(explain("no lock for the robot's Python", known, cp, todo))
    pins: dict[str, Pin] = {}
    for group in ("base", *groups):
        path = folder / cp / f"{group}.txt"
        pins |= {pin.name: pin for pin in parse_lock(path.read_text(encoding="utf-8"), str(path))}
    return pins


def parse_lock(text: str, where: str) -> list[Pin]:
    """Pins of a requirement file. Raises BadInput naming the line."""
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    pins = []
    for line in plain.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        found = _PIN.fullmatch(line.strip())
        if found is None:
            raise BadInput(explain(where, "NAME==VERSION --hash=sha256:...", line[:80], "write the lock again"))
        pins.append(Pin(normalised(found[1]), found[2], frozenset(re.findall(r"sha256:(\w{64})", found[3]))))
    return pins


def normalised(name: str) -> str:
    """A distribution's name as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
