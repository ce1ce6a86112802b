"""A dataset whose cameras have the names that a policy gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevla.bundle.manifest import Camera as BundleCamera
from edgevla.bundle.manifest import Manifest
from edgevla.errors import BadInput, explain
from export.data.interface import Camera, RobotDataset, Ticks, Uint8

ABSENT = "none"  # as a source: the dataset has no such camera
SOURCES = "camera_sources"  # key of a bundle's recipe: its name of a camera -> the dataset's


class MappedCameras:
    """The dataset with its cameras renamed; everything else is the dataset's own.

    cameras: name for the policy -> name in the dataset; ABSENT where there is none.
    """

    def __init__(self, data: Any, cameras: Mapping[str, str]) -> None:
        sizes = {camera.name: camera for camera in data.cameras}
        self._names = {name: source for name, source in cameras.items() if source != ABSENT}
        unknown = sorted(set(self._names.values()) - set(sizes))
        if unknown:
            todo = f'correct `source` in the embodiment file; "{ABSENT}" says that there is no such camera'
            raise BadInput(explain("cameras of the dataset", ", ".join(unknown), ", ".join(sizes) or "none", todo))
        self._data = data
        self.cameras = tuple(Camera(name, sizes[s].height, sizes[s].width) for name, s in self._names.items())

    @staticmethod
    def of(data: Any, cameras: Mapping[str, str]) -> Any:
        """`data` itself where nothing is renamed."""
        same = all(name == source for name, source in cameras.items())
        return data if same and {c.name for c in data.cameras} == set(cameras) else MappedCameras(data, cameras)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def __len__(self) -> int:
        return len(self._data)

    def image(self, ticks: Ticks, camera: str) -> Uint8:
        """(B, h, w, 3) of one camera, by the policy's name."""
        pictures: Uint8 = self._data.image(ticks, self._names[camera])
        return pictures


def camera_sources(data: RobotDataset, manifest: Manifest) -> dict[str, str]:
    """Cameras of the bundle that the dataset has -> the dataset's name of them.

    Raises:
        BadInput: one is missing that the policy needs or that the recipe names, or has another size.
    """
    named = manifest.recipe.get(SOURCES, {})
    pairs = ((camera, str(named.get(camera.name, camera.name))) for camera in manifest.cameras)
    return {camera.name: source for camera, source in pairs if _is_there(data, camera, source)}


def _is_there(data: RobotDataset, camera: BundleCamera, source: str) -> bool:
    have = {one.name: (one.height, one.width) for one in data.cameras}
    if source in have:
        if have[source] != (camera.height, camera.width):
            expected, got = f"{camera.height} x {camera.width} pixels", "{} x {}".format(*have[source])
            raise BadInput(explain(f"camera {source} of the dataset", expected, got, "give the one it was made with"))
        return True
    if camera.when_missing == "refuse" or source not in (ABSENT, camera.name):
        expected, got = f"a camera {source}, the bundle's {camera.name}", ", ".join(have) or "no camera"
        raise BadInput(explain("cameras of the dataset", expected, got, "take a record that has it"))
    return False
