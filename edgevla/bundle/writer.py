"""Write a bundle whole or not at all: into a folder beside the destination, verified, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.bundle.manifest import RELEASE_SCHEMA, SCHEMA
from edgevla.bundle.parts import json_bytes
from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.errors import BadInput, explain
from edgevla.trust.envelope import MANIFEST, MANIFEST_SUM, check_path, sum_line


def write_bundle(dest: str | Path, manifest: Mapping[str, Any], files: Mapping[str, bytes | Path]) -> Bundle:
    """Write `dest` (a folder NAME.bundle) and return it opened.

    manifest: manifest.json as a dictionary without `schema` and `files`, which are filled in here.
    files: relative path -> content, or the path of a file to copy.
    An older bundle at `dest` is replaced; anything else there is refused. Raises BadInput, and then nothing
    at `dest` has changed.
    """
    dest = Path(dest).absolute()
    require_replaceable(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
    try:
        entries = {name: _put(staging, name, content) for name, content in sorted(files.items())}
        raw = json_bytes({**manifest, "schema": RELEASE_SCHEMA if "release" in manifest else SCHEMA, "files": entries})
        _write(staging / MANIFEST, raw)
        _write(staging / MANIFEST_SUM, sum_line(raw))
        staging.chmod(0o755)
        open_bundle(staging)  # the reader is the judge of what was written
        _replace(staging, dest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return open_bundle(dest)


def require_replaceable(dest: Path) -> None:
    """`dest` ends in .bundle and is free or an older bundle. Raises BadInput, before any work is spent on it."""
    if dest.suffix != ".bundle":
        raise BadInput(explain("a bundle's folder needs its ending", "NAME.bundle", dest.name, "rename -o"))
    if dest.is_symlink() or (dest.exists() and not (dest / MANIFEST).is_file()):
        todo = "choose another path, or remove it yourself"
        raise BadInput(explain(f"{dest} is in the way", "nothing, or an older bundle", "something else", todo))


def _put(staging: Path, name: str, content: bytes | Path) -> dict[str, Any]:
    path = staging / check_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content if isinstance(content, bytes) else content.read_bytes()
    _write(path, raw)
    return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}


def _write(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _replace(staging: Path, dest: Path) -> None:
    """Put `staging` at `dest`. An older bundle is moved aside first and comes back if the rename fails."""
    aside = staging.with_name(staging.name + ".old")
    if dest.exists():
        dest.rename(aside)
    try:
        staging.rename(dest)
    except BaseException:  # a Ctrl-C too
        if aside.exists():
            aside.rename(dest)
        raise
    shutil.rmtree(aside, ignore_errors=True)
