"""Which camera a person has seen to show the view that a bundle was trained with.

One small JSON file in the state folder, mode 0600: a confirmation binds the sha256 of a bundle's manifest, a camera's
name in it and the stable id of the device. Another device or another port is asked for again, and another bundle unless
its camera has the same size and the very same training frame: the person has compared that frame already.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Confirmation:
    """One camera of one bundle, and the device that a person found right."""

    manifest_sha256: str
    camera: str
    device: str
    view: str | None = None  # what was compared, see `view_sha256`; None: the bundle had no training frame


def view_sha256(bundle: Bundle, camera: str) -> str | None:
    """Of a camera's description and its training frame: the same in two bundles, nothing is left to compare anew."""
    for one in bundle.cameras:
        if one.camera.name == camera and one.frame is not None:
            told = {"camera": asdict(one.camera), "frame": bundle.manifest.files[one.frame].sha256}
            return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return None


def confirmed(path: Path | None = None) -> dict[Key, str]:
    """Every confirmation: (sha256 of the manifest, camera) -> stable id. Raises BadInput on a damaged file."""
    return {(one.manifest_sha256, one.camera): one.device for one in _read(path or state_file())}


def _read(path: Path) -> list[Confirmation]:
    """Oldest first."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return []
    if len(raw) > _MOST_BYTES:
        raise BadInput(explain(f"{path} is too large", f"{_MOST_BYTES} bytes at most", "more", _TODO))
    table = _Table(str(path), parse_json(raw, str(path)))
    if table.text("schema") != SCHEMA:
        table.fail("schema", SCHEMA, "another")
    found = table.each("confirmed", _entry, most=_MOST) if table.raw("confirmed", "a list") else ()
    table.nothing_left()
    return list(found)


class _Table(JsonTable):
    todo = _TODO


def _entry(table: JsonTable) -> Confirmation:
    view = table.sha256("view") if table.has("view") else None
    return Confirmation(table.sha256("manifest_sha256"), table.name("camera"), table.text("device"), view)


def confirm(bundle: Bundle, devices: Mapping[str, str], path: Path | None = None) -> None:
    """Keep that a person found these cameras right: name -> stable id. The file is replaced whole, or not at all."""
    path = path or state_file()
    sha256 = manifest_sha256(bundle)
    kept = [one for one in _read(path) if one.manifest_sha256 != sha256 or one.camera not in devices]
    kept += [Confirmation(sha256, name, device, view_sha256(bundle, name)) for name, device in devices.items()]
    entries = [{key: value for key, value in asdict(one).items() if value is not None} for one in kept]
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
    kept, typed = _read(path or state_file()), sources or {}
    options = " ".join(f"--camera {name}={typed.get(name, 'SOURCE')}" for name in cameras)
    todo = f"type: edgevla camera check --bundle {bundle.path} {options} --confirm"
    for name, device in cameras.items():
        twin = next((other for other in cameras if other != name and cameras[other] == device), None)
        if twin is not None:
            raise Refused(explain(f"cameras {name} and {twin} are one device", "two devices", device, todo))
        if (before := _device_for(bundle, name, kept)) != device:
            got = f"{device}, never confirmed" if before is None else f"{device}; confirmed was {before}"
            expected = "a device that a person compared with the bundle's training frame"
            raise Refused(explain(f"camera {name} is not confirmed for this bundle", expected, got, todo))


def _device_for(bundle: Bundle, camera: str, kept: list[Confirmation]) -> str | None:
    """The device that was confirmed for this bundle, else the newest for the same view of another one."""
    sha256, view = manifest_sha256(bundle), view_sha256(bundle, camera)
    mine = [one.device for one in kept if (one.manifest_sha256, one.camera) == (sha256, camera)]
    same = [one.device for one in kept if view is not None and (one.view, one.camera) == (view, camera)]
    return next(reversed(mine or same), None)
