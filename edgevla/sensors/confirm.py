"""Which camera a person has seen to show the view that a bundle was trained with.

One small JSON file in the state folder, mode 0600: a confirmation binds the sha256 of a bundle's manifest, a camera's
name in it and the stable id of the device. Another bundle, another device or another port is asked for again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgevla.bundle import Bundle
from edgevla.bundle.manifest import MANIFEST
from edgevla.bundle.schema import JsonTable, parse_json
from edgevla.errors import BadInput, Refused, explain

SCHEMA = "edgevla.cameras/1"
_MOST_BYTES = 1024 * 1024
_MOST = 1000  # confirmations kept; the oldest go first
_TODO = "move the file away and confirm again with `edgevla camera check --confirm`"

Key = tuple[str, str]  # sha256 of the manifest, name of the camera


def state_file() -> Path:
    """`$XDG_STATE_HOME/edgevla/cameras.json`, by default below ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local/state") / "edgevla" / "cameras.json"


def manifest_sha256(bundle: Bundle) -> str:
    """What a confirmation is bound to: everything in the bundle hangs on it."""
    return hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()


def confirmed(path: Path | None = None) -> dict[Key, str]:
    """Every confirmation: (sha256 of the manifest, camera) -> stable id. Raises BadInput on a damaged file."""
    path = path or state_file()
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return {}
    if len(raw) > _MOST_BYTES:
        raise BadInput(explain(f"{path} is too large", f"{_MOST_BYTES} bytes at most", "more", _TODO))
    table = _Table(str(path), parse_json(raw, str(path)))
    if table.text("schema") != SCHEMA:
        table.fail("schema", SCHEMA, "another")
    found = table.each("confirmed", _entry, most=_MOST) if table.raw("confirmed", "a list") else ()
    table.nothing_left()
    return dict(found)


class _Table(JsonTable):
    todo = _TODO


def _entry(table: JsonTable) -> tuple[Key, str]:
    return (table.sha256("manifest_sha256"), table.name("camera")), table.text("device")


def confirm(bundle: Bundle, devices: Mapping[str, str], path: Path | None = None) -> None:
    """Keep that a person found these cameras right: name -> stable id. The file is replaced whole, or not at all."""
    path = path or state_file()
    kept, sha256 = confirmed(path), manifest_sha256(bundle)
    for name, device in devices.items():
        kept.pop((sha256, name), None)
        kept[sha256, name] = device
    entries = [{"manifest_sha256": sha, "camera": name, "device": device} for (sha, name), device in kept.items()]
    _replace(path, {"schema": SCHEMA, "confirmed": entries[-_MOST:]})


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def require_confirmed(
    bundle: Bundle, cameras: Mapping[str, str], sources: Mapping[str, str] | None = None, path: Path | None = None
) -> None:
    """Refuse cameras that nobody compared with this bundle's training frames.

    Args:
        bundle: an opened bundle.
        cameras: name of the bundle's camera -> stable id of the device in its place.
        sources: name -> source as it was typed, for the command in the error.
        path: the state file, by default `state_file()`.

    Raises:
        Refused: naming each camera and the command to type. Also when one device stands for two cameras.
    """
    kept, sha256 = confirmed(path), manifest_sha256(bundle)
    typed = sources or {}
    options = " ".join(f"--camera {name}={typed.get(name, 'SOURCE')}" for name in cameras)
    todo = f"type: edgevla camera check --bundle {bundle.path} {options} --confirm"
    for name, device in cameras.items():
        twin = next((other for other in cameras if other != name and cameras[other] == device), None)
        if twin is not None:
            raise Refused(explain(f"cameras {name} and {twin} are one device", "two devices", device, todo))
        if (before := kept.get((sha256, name))) != device:
            got = f"{device}, never confirmed" if before is None else f"{device}; confirmed was {before}"
            expected = "a device that a person compared with the bundle's training frame"
            raise Refused(explain(f"camera {name} is not confirmed for this bundle", expected, got, todo))
