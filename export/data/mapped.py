"""A dataset whose cameras have the names that a policy gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevla.errors import BadInput, explain
from export.data.interface import Camera, Ticks, Uint8

ABSENT = "none"


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
