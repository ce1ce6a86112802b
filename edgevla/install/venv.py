"""A Python environment without pip: a folder by PEP 405, wheels unpacked into it by us, one launcher.

Everything in it is written below its final place's stand-in and never again: compiled Python is made here, because
the service may not write, and a half-written .pyc after a power cut would break an import.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import platform
import py_compile
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgevla.errors import BadInput, explain
from edgevla.install.wheel import Wheel, WheelFile

# Children of the command inherit the two lines of environment: nothing outside the venv is imported, nothing is
# written into it.
_LAUNCHER = """#!/bin/sh
# Written by the edgevla installer.
bin=$(cd "${{0%/*}}" && pwd -P) || exit 70
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP
export PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1
exec "$bin/python3" -I -B -c 'import sys
sys.argv[0] = "edgevla"
from {module} import {function}
sys.exit({call}())' "$@"
"""
_COMMAND = "edgevla"


@dataclass(frozen=True)
class Interpreter:
    """The Python of the system, which every release's venv leads to."""

    executable: Path
    version: str  # "3.10.12"

    @property
    def short(self) -> str:
        """ "3.10"."""
        return ".".join(self.version.split(".")[:2])

    @property
    def site(self) -> PurePosixPath:
        return PurePosixPath("lib", f"python{self.short}", "site-packages")


def this_interpreter() -> Interpreter:
    """The Python that runs this, or the one that its own venv leads to."""
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
    return Interpreter(executable, platform.python_version())


def bytes_needed(wheels: Sequence[Path], python: Interpreter) -> tuple[int, int]:
    """(bytes, files) of the venv of these wheels, as they declare it, compiled Python included. Raises BadInput."""
    total, files = 0, 16
    for path in wheels:
        with Wheel(path, python.site) as wheel:
            total += wheel.bytes_unpacked()
            files += 2 * len(wheel.files)
    return total, files


def make_venv(folder: Path, wheels: Sequence[Path], python: Interpreter, final: Path) -> int:
    """Make the environment in `folder`, which is renamed to `final` later; returns the number of files unpacked.

    Nothing is synced here. Raises BadInput: a wheel is wrong, two wheels differ about a file, no edgevla among them;
    OSError.
    """
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python3").symlink_to(python.executable)
    (binaries / "python").symlink_to("python3")
    config = f"home = {python.executable.parent}\ninclude-system-site-packages = false\nversion = {python.version}\n"
    (folder / "pyvenv.cfg").write_text(config)
    entry, files = unpack_wheels(folder, wheels, python.site)
    if entry is None:
        todo = "build the bundle again: `edgevla bundle build`"
        raise BadInput(explain("no wheel of edgevla in the bundle", "the command `edgevla`", "none", todo))
    _write(binaries / _COMMAND, launcher(entry), executable=True)
    compile_python(folder, final)
    return files


def unpack_wheels(folder: Path, wheels: Sequence[Path], site: PurePosixPath) -> tuple[str | None, int]:
    """Unpack into `folder`; (entry point of `edgevla` if any has one, number of files). Raises BadInput, OSError."""
    owners: dict[PurePosixPath, tuple[str, str]] = {}
    entry = None
    for path in wheels:
        with Wheel(path, site) as wheel:
            for file in wheel.files:
                raw = content_of(wheel, file)
                if _claim(owners, file.dest, path.name, raw):
                    _write(folder / file.dest, raw, file.executable)
            entry = wheel.entry_point(_COMMAND) or entry
    return entry, len(owners)


def check_venv(folder: Path, wheels: Sequence[Path], python: Interpreter) -> None:
    """Every file of the wheels lies in the environment as it was unpacked. Raises BadInput naming the first that
    does not."""
    for path in wheels:
        with Wheel(path, python.site) as wheel:
            for file in wheel.files:
                try:
                    raw = (folder / file.dest).read_bytes()
                except OSError as error:
                    _damaged(folder, file.dest, error.strerror or "unreadable")
                if raw != content_of(wheel, file):
                    _damaged(folder, file.dest, "another content")


def launcher(entry_point: str) -> bytes:
    """bin/edgevla: works wherever the environment lies, also through `current`."""
    module, _, function = entry_point.partition(":")
    return _LAUNCHER.format(module=module, function=function.split(".")[0], call=function).encode()


def content_of(wheel: Wheel, file: WheelFile) -> bytes:
    """What is written: as in the wheel, but a script's first line names the environment's Python."""
    raw = wheel.read(file)
    if file.script and raw.startswith(b"#!python"):
        return b"#!/usr/bin/env python3" + raw[raw.index(b"\n") if b"\n" in raw else len(raw) :]
    return raw


def compile_python(folder: Path, final: Path) -> None:
    """Compile what can be compiled; never looked at again for age. What cannot is Python of another version."""
    compileall.compile_dir(
        str(folder),
        maxlevels=64,
        quiet=2,
        stripdir=str(folder),
        prependdir=str(final),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        workers=1,
    )


def _claim(owners: dict[PurePosixPath, tuple[str, str]], dest: PurePosixPath, wheel: str, raw: bytes) -> bool:
    """False when an earlier wheel has written the same bytes there. Raises BadInput when it has written others."""
    digest = hashlib.sha256(raw).hexdigest()
    earlier = owners.setdefault(dest, (wheel, digest))
    if earlier == (wheel, digest):
        return True
    if earlier[1] != digest:
        what = f"two wheels have different files {dest}"
        raise BadInput(explain(what, "one of them", f"{earlier[0]} and {wheel}", "leave one out, and build again"))
    return False


def _write(path: Path, raw: bytes, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(raw)
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)


def _damaged(folder: Path, name: PurePosixPath, got: str) -> None:
    what = f"{folder.parent.name}/venv/{name}: the release is damaged"
    raise BadInput(explain(what, "what its wheel holds", got, "roll back, or deploy again after `edgevla deploy gc`"))
