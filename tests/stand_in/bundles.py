"""Policies for the stand-ins: a few kilobytes, ten ticks a second, a camera that may be absent."""

from __future__ import annotations

from pathlib import Path

from edgevla.bundle import write_bundle
from edgevla.bundle.manifest import Camera
from edgevla.bundle.parts import CameraFile, cameras_bytes
from tests.tiny_bundle import SIDE, tiny_files, tiny_manifest

PERIOD_S = 0.1  # T: eight times that of the reference policy, for an emulator
_CAMERA = Camera("corner", SIDE, SIDE, 3, "rgb", 10.0, SIDE, SIDE, "exact", "blank")


def write_policy(dest: Path, name: str = "tiny") -> Path:
    """A bundle without a release, named `name`: another name is another release."""
    manifest = tiny_manifest()
    manifest["name"] = name
    manifest["timing"]["period_s"] = PERIOD_S
    manifest["cameras"][0].update(rate_hz=_CAMERA.rate_hz, when_missing=_CAMERA.when_missing)
    files = {**tiny_files(), "cameras.toml": cameras_bytes([CameraFile(_CAMERA, None)])}
    return write_bundle(dest, manifest, files).path
