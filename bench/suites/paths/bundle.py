"""A bundle: opened, judged, packed into its archive and out of it again."""

from __future__ import annotations

import shutil
from pathlib import Path

from .path import Made, Paths, Place

PATHS = Paths()


@PATHS.add("bundle/open")
def _open(place: Place) -> Made:
    """Every hash of every file, and the manifest."""
    from edgevla.bundle import open_bundle

    return Made(lambda: open_bundle(place.bundle), lambda found: hasattr(found, "manifest"))


@PATHS.add("bundle/verify golden vectors")
def _golden(place: Place) -> Made:
    from edgevla.bundle import open_bundle
    from edgevla.bundle.verify import verify_golden

    bundle = open_bundle(place.bundle)
    return Made(
        lambda: verify_golden(bundle),
        lambda found: isinstance(found, list) and bool(found) and all(v.kept for v in found),
    )


@PATHS.add("bundle/verify interfaces of the graphs")
def _graphs(place: Place) -> Made:
    from edgevla.bundle import open_bundle
    from edgevla.bundle.verify import verify_graphs

    bundle = open_bundle(place.bundle)
    return Made(
        lambda: verify_graphs(bundle),
        lambda found: isinstance(found, list) and bool(found) and all(v.kept for v in found),
    )


def _archive(place: Place) -> Path:
    from edgevla.trust import archive

    path = place.folder / "one.tar.zst"
    if not path.exists():
        archive.pack(place.bundle, path)
    return path


@PATHS.add("bundle/pack")
def _pack(place: Place) -> Made:
    from edgevla.trust import archive

    dest = place.folder / "packed.tar.zst"
    return Made(
        lambda: archive.pack(place.bundle, dest), lambda envelope: hasattr(envelope, "files") and dest.is_file()
    )


@PATHS.add("bundle/unpack")
def _unpack(place: Place) -> Made:
    from edgevla.trust import archive

    packed, dest = _archive(place), place.folder / "unpacked.bundle"

    def unpack() -> object:
        shutil.rmtree(dest, ignore_errors=True)  # it writes to no folder that is there
        return archive.unpack(packed, dest, archive.unsigned)

    return Made(unpack, lambda envelope: hasattr(envelope, "files") and (dest / "manifest.json").is_file())


@PATHS.add("bundle/inspect an archive")
def _inspect(place: Place) -> Made:
    """Everything that unpacking checks, and nothing written."""
    from edgevla.trust import archive

    packed = _archive(place)
    return Made(lambda: archive.inspect(packed, archive.unsigned), lambda envelope: hasattr(envelope, "files"))
