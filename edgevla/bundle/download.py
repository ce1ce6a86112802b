"""Fetch locked wheels for another computer with pip, into a cache: the only place here that uses a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from edgevla.bundle.locks import Pin
from edgevla.bundle.platforms import Platform, pip_flags
from edgevla.errors import DeviceFault, Usage, explain

TIMEOUT_S = 1800.0
_ADDRESS = re.compile(r"\b\w+://\S+")


def cache_folder() -> Path:
    """Where fetched wheels stay: edgevla/wheels in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgevla" / "wheels"


def download(pins: Iterable[Pin], platform: Platform, dest: Path, timeout_s: float = TIMEOUT_S) -> list[Path]:
    """Fetch exactly these pins for `platform` into `dest`; pip compares each hash with the lock.

    Raises DeviceFault where the index does not give them, Usage where this Python has no pip.
    """
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=dest) as folder:
        lock = Path(folder) / "lock.txt"
        lock.write_text("".join(f"{pin.line()}\n" for pin in pins), encoding="utf-8")
        _pip(
            ["download", "--no-deps", "--require-hashes", "--dest", folder, *pip_flags(platform), "-r", str(lock)],
            timeout_s,
        )
        found = []
        for path in sorted(Path(folder).glob("*.whl")):
            os.replace(path, dest / path.name)  # whole or not at all, also for a build beside this one
            found.append(dest / path.name)
        return found


def _pip(words: list[str], timeout_s: float) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *words]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise _not_fetched(f"no end within {timeout_s:g} s") from None
    if "No module named pip" in result.stderr:
        todo = "`python -m ensurepip` brings it; or pass --wheels DIR with the wheels in it"
        raise Usage(explain("wheels cannot be fetched", "pip in this environment", "none", todo))
    if result.returncode != 0:
        raise _not_fetched(why(result.stderr))


def why(stderr: str) -> str:
    """The last thing that pip complained of, without any address."""
    told = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return _ADDRESS.sub("(the index)", told[-1] if told else stderr.strip()[-300:] or "no reason given")


def _not_fetched(got: str) -> DeviceFault:
    todo = "check the network and pip's settings, or pass --wheels DIR with the wheels in it"
    return DeviceFault(
        explain("the robot's wheels were not fetched", "every wheel of the lock from the package index", got, todo)
    )
