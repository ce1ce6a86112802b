"""Two scenes that a camera could see, and a bundle that was trained with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgevla.bundle import Bundle, write_bundle
from edgevla.bundle.manifest import Camera
from edgevla.bundle.parts import CameraFile, cameras_bytes
from edgevla.telemetry.png import encode_png
from tests.rich_bundle import golden, rich_files, rich_manifest

SIZE = 64
RATE_HZ = 40.0


def table(noise: int = 0, move: int = 0) -> np.ndarray:
    """A wooden table with a blue box at the left and a dark arm from the right, RGB (64, 64, 3)."""
    image = np.zeros((SIZE, SIZE, 3), np.float64)
    image[:] = (170, 120, 70)
    image[:16] = (90, 95, 100)
    image[34:50, 6 + move : 22 + move] = (30, 60, 190)
    image[20:28, 36:] = (25, 25, 30)
    image[50:56, 40:60] = (210, 210, 60)
    return shaken(image, noise)


def gripper(noise: int = 0) -> np.ndarray:
    """Two grey fingers before a green mat with a red disc, RGB (64, 64, 3)."""
    image = np.zeros((SIZE, SIZE, 3), np.float64)
    image[:] = (40, 130, 60)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image[(rows - 20) ** 2 + (columns - 40) ** 2 < 90] = (200, 40, 30)
    image[30:, 8:20] = (150, 150, 155)
    image[36:, 44:56] = (150, 150, 155)
    return shaken(image, noise)


def shaken(image: np.ndarray, noise: int) -> np.ndarray:
    """With the noise of a sensor, of that standard deviation."""
    grain = np.random.default_rng(3).normal(0, 1, image.shape) * noise
    return np.clip(image + grain, 0, 255).astype(np.uint8)


TRAINED = {"front": table(), "wrist": gripper()}


def write_bundle_with_frames(dest: Path, frames: bool = True) -> Bundle:
    """The rich bundle of tests/rich_bundle.py, with two cameras of one size and (unless told) a frame of each."""
    cameras = [
        Camera("front", SIZE, SIZE, 3, "rgb", RATE_HZ, 16, 16, "stretch", "refuse"),
        Camera("wrist", SIZE, SIZE, 3, "rgb", RATE_HZ, 16, 16, "stretch", "blank"),
    ]
    named = {camera.name: f"cameras/{camera.name}.png" for camera in cameras} if frames else {}
    files = {
        **rich_files(),
        "cameras.toml": cameras_bytes([CameraFile(camera, named.get(camera.name)) for camera in cameras]),
        "golden/000.npz": replace(golden(), images={"front": table()}).to_bytes(),
        **{path: encode_png(TRAINED[name]) for name, path in named.items()},
    }
    return write_bundle(dest, {**rich_manifest(), "cameras": [vars(camera) for camera in cameras]}, files)
