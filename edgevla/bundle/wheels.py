"""A wheel as a value: what its file name and METADATA say, bounded, and nothing in it run."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import NoReturn

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from edgevla.bundle.platforms import Platform, describe_tags
from edgevla.errors import BadInput, explain

_MAX_METADATA_BYTES = 4 * 1024 * 1024
_TODO = "fetch this wheel again"


@dataclass(frozen=True)
class Wheel:
    """One wheel file. `name` is the normalised one ('typing-extensions')."""

    path: Path
    name: str
    version: str
    tags: frozenset[Tag]
    license: str  # SPDX expression or the words of the METADATA; '': it says nothing
    requires: tuple[str, ...]  # Requires-Dist lines
    requires_python: str
    sha256: str
    bytes: int

    @property
    def file(self) -> str:
        return self.path.name


def read_wheel(path: Path) -> Wheel:
    """The wheel at `path`. Raises BadInput unless its name and METADATA are those of one wheel."""
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        _refuse(path, "a name like numpy-2.2.6-cp310-cp310-manylinux_2_28_aarch64.whl", error)
    headers = _metadata(path)
    told = canonicalize_name(headers.get("Name", "")), headers.get("Version", "")
    if told != (name, str(version)):
        _refuse(path, f"METADATA of {name} {version}", f"{told[0]} {told[1]}")
    return Wheel(
        path=path,
        name=name,
        version=str(version),
        tags=tags,
        license=_license(headers),
        requires=tuple(headers.get_all("Requires-Dist") or ()),
        requires_python=headers.get("Requires-Python", ""),
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
    )


def require_runs(wheel: Wheel, platform: Platform, vendor: bool = False) -> None:
    """Raises BadInput unless `platform` can run the wheel. vendor: also one built on such a system (linux_ARCH)."""
    fitting = platform.ranks.keys() | (platform.vendor_tags if vendor else frozenset())
    where = f"Python {platform.python}, {platform.arch}, glibc {platform.glibc}"
    if not wheel.tags & fitting:
        _refuse(wheel.path, f"a wheel for {where}", f"one for {describe_tags(wheel.tags)}")
    try:
        runs = SpecifierSet(wheel.requires_python).contains(f"{platform.python}.0", prereleases=True)
    except InvalidSpecifier as error:
        _refuse(wheel.path, "a sound Requires-Python", error)
    if not runs:
        _refuse(wheel.path, f"a wheel for {where}", f"Requires-Python: {wheel.requires_python}")


def best_of(wheels: Iterable[Wheel], platform: Platform) -> Wheel | None:
    """The one that pip would take of several wheels of one version; None: `platform` runs none of them."""
    ranks = platform.ranks
    fitting = [
        (min(ranks[tag] for tag in wheel.tags & ranks.keys()), wheel.file, wheel)
        for wheel in wheels
        if wheel.tags & ranks.keys()
    ]
    return min(fitting, key=lambda item: item[:2])[2] if fitting else None


def closure(
    roots: Iterable[str],
    requires: Mapping[str, Sequence[str]],
    platform: Platform,
    left_out: Mapping[str, Collection[str]],
) -> tuple[set[str], dict[str, str]]:
    """(names that `roots` need, those of them that `requires` lacks: name -> who asks for it).

    requires: normalised name -> its Requires-Dist lines. left_out: name -> what it asks for and shall not get.
    Raises BadInput for a line that is no requirement.
    """
    seen: set[str] = set()
    missing: dict[str, str] = {}
    waiting: list[tuple[str, str]] = [(canonicalize_name(root), "this release") for root in sorted(roots)]
    while waiting:
        name, asker = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in requires:
            missing.setdefault(name, asker)
            continue
        unwanted = left_out.get(name, ())
        waiting += [(need, name) for need in direct_needs(name, requires[name], platform) if need not in unwanted]
    return seen - missing.keys(), missing


def direct_needs(name: str, lines: Sequence[str], platform: Platform) -> list[str]:
    """Normalised names that these Requires-Dist lines of `name` ask for on `platform`. Raises BadInput."""
    try:
        wanted = [Requirement(line) for line in lines]
    except InvalidRequirement as error:
        raise BadInput(explain(f"the METADATA of {name}", "sound Requires-Dist lines", error, _TODO)) from error
    markers = {key: str(value) for key, value in platform.markers.items()}
    return [canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate(markers)]


def sha256_of(path: Path) -> str:
    """Hexadecimal, read a mebibyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _metadata(path: Path) -> Message:
    try:
        with zipfile.ZipFile(path) as archive:
            found = [
                i
                for i in archive.infolist()
                if i.filename.count("/") == 1 and i.filename.endswith(".dist-info/METADATA")
            ]
            if len(found) != 1 or found[0].file_size > _MAX_METADATA_BYTES:
                _refuse(path, "one METADATA of a sound size", f"{len(found)} of them")
            raw = archive.read(found[0])
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        _refuse(path, "a zip file that can be read", error)
    return HeaderParser().parsestr(raw.decode("utf-8", "replace"))


def _license(headers: Message) -> str:
    """The SPDX expression; else the classifiers' words; else a License header of one line."""
    if expression := headers.get("License-Expression", "").strip():
        return expression
    found = [line.split(" :: ")[-1] for line in headers.get_all("Classifier") or () if line.startswith("License :: ")]
    told = str(headers.get("License", "")).strip()
    if found and found != ["OSI Approved"]:
        return ", ".join(sorted(found))
    return told if told and "\n" not in told and len(told) <= 100 else ""


def _refuse(path: Path, expected: str, got: object) -> NoReturn:
    raise BadInput(explain(f"the wheel {path.name} is not to be used", expected, got, _TODO))
