"""edgevla itself as a wheel for the robot, packed from where it is imported: the same bytes for the same files.

Only what a robot runs: `export` and `bench` stay on the workstation, and with them their commands.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import edgevla
import firmware_bridge
import profiles
from edgevla.errors import Usage, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "edgevla"
PACKAGES = (edgevla, firmware_bridge, profiles)
GROUP = "edgevla.commands"
_DATA = (".py", ".toml", ".txt", ".eds", ".c", ".h", ".ld")
_DATA_NAMES = ("Makefile", "py.typed")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment a zip file can name


@dataclass(frozen=True)
class Declared:
    """What this installation says of itself."""

    version: str
    requires: tuple[str, ...]  # without extras
    requires_python: str
    summary: str
    license: str
    scripts: Mapping[str, str]
    commands: Mapping[str, str]
    license_text: str


def build_own_wheel() -> tuple[str, bytes]:
    """(file name, bytes) of edgevla-VERSION-py3-none-any.whl. Raises Usage where edgevla is not installed."""
    declared = read_declared()
    info = f"{NAME}-{declared.version}.dist-info"
    files = {name: path.read_bytes() for name, path in package_files().items()}
    files[f"{info}/METADATA"] = _metadata(declared).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: edgevla\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/licenses/LICENSE"] = declared.license_text.encode()
    files[f"{info}/entry_points.txt"] = _entry_points(declared).encode()
    files[f"{info}/top_level.txt"] = "".join(f"{name}\n" for name in _names()).encode()
    files[f"{info}/RECORD"] = record(files, f"{info}/RECORD").encode()
    return f"{NAME}-{declared.version}-py3-none-any.whl", zip_bytes(files)


def package_files() -> dict[str, Path]:
    """Path inside the wheel -> file of the packages a robot needs, with their data."""
    found = {}
    for package in PACKAGES:
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root.parent)
            hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
            wanted = path.suffix in _DATA or path.name in _DATA_NAMES
            if wanted and not hidden and path.is_file() and not path.is_symlink():
                found[inside.as_posix()] = path
    return found


def read_declared() -> Declared:
    """From the pyproject.toml of a source tree, newer than what an editable install wrote down; else as installed."""
    project = Path(str(edgevla.__file__)).parent.parent / "pyproject.toml"
    if project.is_file():
        table: dict[str, Any] = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if table.get("name") == NAME:
            return _of_source(table, (project.parent / "LICENSE").read_text(encoding="utf-8"))
    return _of_installed()


def _of_source(table: dict[str, Any], license_text: str) -> Declared:
    return Declared(
        version=table["version"],
        requires=tuple(table["dependencies"]),
        requires_python=table["requires-python"],
        summary=table["description"],
        license=table["license"],
        scripts=_ours(table["scripts"]),
        commands=_ours(table["entry-points"][GROUP]),
        license_text=license_text,
    )


def _of_installed() -> Declared:
    try:
        found = distribution(NAME)
    except PackageNotFoundError:
        todo = "pip install edgevla, or run from its source tree"
        raise Usage(explain("edgevla cannot pack itself", "an installed edgevla", "none", todo)) from None
    points = found.entry_points
    return Declared(
        version=found.version,
        requires=tuple(line for line in found.requires or () if "extra ==" not in line),
        requires_python=found.metadata["Requires-Python"],
        summary=found.metadata["Summary"],
        license=found.metadata["License-Expression"],
        scripts=_ours({one.name: one.value for one in points if one.group == "console_scripts"}),
        commands=_ours({one.name: one.value for one in points if one.group == GROUP}),
        license_text=found.read_text("licenses/LICENSE") or "",
    )


def _ours(points: Mapping[str, str]) -> dict[str, str]:
    """Those of the packages in the wheel."""
    return {name: value for name, value in sorted(points.items()) if value.split(":")[0].split(".")[0] in _names()}


def _names() -> tuple[str, ...]:
    return tuple(package.__name__ for package in PACKAGES)


def _metadata(declared: Declared) -> str:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {NAME}",
        f"Version: {declared.version}",
        f"Summary: {declared.summary}",
        f"License-Expression: {declared.license}",
        "License-File: LICENSE",
        f"Requires-Python: {declared.requires_python}",
        *(f"Requires-Dist: {Requirement(one)}" for one in declared.requires),
    ]
    return "\n".join(lines) + "\n"


def _entry_points(declared: Declared) -> str:
    blocks = {"console_scripts": declared.scripts, GROUP: declared.commands}
    return "\n".join(
        f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for name, points in blocks.items()
    )


def record(files: Mapping[str, bytes], own: str) -> str:
    """The RECORD of a wheel: sha256 and size of each file, and its own line without either."""
    return "".join([*(_record_line(name, files[name]) for name in sorted(files)), f"{own},,\n"])


def _record_line(name: str, raw: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(raw)}\n"


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files, not compressed: no version of zlib can change a byte, and the bundle is compressed anyway.

    So that a new version of one module moves that module only when a release is copied to a robot.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in _order(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _order(names: Iterable[str]) -> list[str]:
    """Sorted, with .dist-info at the end as wheels have it and RECORD last."""
    return sorted(names, key=lambda name: (".dist-info/" in name, name.endswith("/RECORD"), name))
