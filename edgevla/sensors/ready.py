"""May these sources stand in for a bundle's cameras? Asked before a run, or an installer, opens any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgevla.bundle import Bundle
from edgevla.errors import EdgevlaError, Refused
from edgevla.sensors.confirm import require_confirmed
from edgevla.sensors.identity import of_source
from edgevla.sensors.sources.base import SourceName

LIBRARY_OF = {"v4l2": "cv2", "file": "cv2"}  # kind of source -> module that reads it


@dataclass(frozen=True)
class Lack:
    """What is missing first. `kind`: source, library, device or confirmation."""

    kind: str
    camera: str
    text: str  # one message, with what to do on this computer


def first_lack(bundle: Bundle, sources: Mapping[str, SourceName], confirmations: Path | None = None) -> Lack | None:
    """None where every camera has a source that can be read, is there, and was confirmed by a person."""
    cameras = {one.name: one.when_missing for one in bundle.manifest.cameras}
    needed = [name for name, when_missing in cameras.items() if when_missing == "refuse"]
    for name in [*(one for one in needed if one not in sources), *(one for one in sources if one not in cameras)]:
        return Lack("source", name, f"the bundle's cameras: {', '.join(cameras) or 'none'}")
    for name, source in sources.items():
        if (library := LIBRARY_OF.get(source.kind)) and find_spec(library) is None:
            return Lack("library", name, f"{source.kind}: needs {library}, which is not installed")
    devices = {}
    for name, source in sources.items():
        try:
            devices[name] = of_source(source)
        except (EdgevlaError, OSError) as error:
            return Lack("device", name, str(error))
    try:
        require_confirmed(bundle, devices, {name: str(source) for name, source in sources.items()}, confirmations)
    except Refused as error:
        name = next((one for one in devices if f"camera {one} " in str(error)), next(iter(devices), ""))
        return Lack("confirmation", name, str(error))
    return None
