"""Recorded episodes as an evaluation sees them: observations, and actions in the units of the bundle's channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Camera, Manifest
from edgevla.errors import BadInput, explain
from export.data.interface import RobotDataset, numbered

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Uint8 = npt.NDArray[np.uint8]
PERIOD_SLACK = 1e-3  # relative: 33.3 ms and 1/30 s are the same
SOURCES = "camera_sources"  # key of the recipe: the bundle's name of a camera -> the dataset's
ABSENT = "none"  # as a source: the dataset has no such camera


@dataclass(frozen=True)
class Record:
    """n ticks. Actions are per tick for delta channels and set-points for absolute ones, in the channel's unit."""

    name: str
    sha256: str
    state: Float32  # (n, S)
    executed: Float64  # (n, A), what was commanded
    label: Float64  # (n, A), what was to be done there; `executed` where nothing else was recorded
    state_names: tuple[str, ...]
    episodes: tuple[tuple[int, int], ...]  # first tick and one past the last, of each; in order
    instruction: Callable[[int], str]
    cameras: Mapping[str, str]  # of the bundle -> of the dataset; absent ones left out
    images: Callable[[int], Mapping[str, Uint8]]  # tick -> camera of the bundle -> (h, w, 3)

    def before(self, tick: int, observations: int) -> range:
        """Ticks of the observations that a policy of so many sees besides the tick's own, none of another episode."""
        first = max(first for first, _ in self.episodes if first <= tick)
        return range(max(first, tick - observations + 1), tick)


def record_of(name: str, data: RobotDataset, manifest: Manifest) -> Record:
    """The record of a dataset.

    Raises:
        BadInput: recorded at another period, or with other channels, state or cameras than the bundle's, or not finite.
    """
    _require_same(data, manifest)
    sources = camera_sources(data, manifest)

    def images(tick: int) -> dict[str, Uint8]:
        return {mine: np.asarray(data.image([tick], theirs)[0], np.uint8) for mine, theirs in sources.items()}

    return Record(
        name,
        data.sha256,
        data.state,
        data.executed.astype(np.float64),
        data.action.astype(np.float64),
        data.state_names,
        tuple((int(first), int(data.end[first])) for first in np.unique(data.start)),
        data.instruction,
        sources,
        images,
    )


def open_record(folder: Path, manifest: Manifest, work: Path) -> Record:
    """The record in a folder, in any format that `export.data` knows. Raises BadInput.

    Args:
        work: where decoded video is kept.
    """
    from export.data.load import open_dataset

    return record_of(folder.name, open_dataset(folder, work), manifest)


def camera_sources(data: RobotDataset, manifest: Manifest) -> dict[str, str]:
    """Cameras of the bundle that the dataset has -> the dataset's name of them.

    Raises:
        BadInput: one is missing that the policy needs or that the recipe names, or has another size.
    """
    named = manifest.recipe.get(SOURCES, {})
    pairs = ((camera, str(named.get(camera.name, camera.name))) for camera in manifest.cameras)
    return {camera.name: source for camera, source in pairs if _is_there(data, camera, source)}


def _is_there(data: RobotDataset, camera: Camera, source: str) -> bool:
    have = {one.name: (one.height, one.width) for one in data.cameras}
    if source in have:
        if have[source] != (camera.height, camera.width):
            expected, got = f"{camera.height} x {camera.width} pixels", "{} x {}".format(*have[source])
            raise BadInput(explain(f"camera {source} of the record", expected, got, "take a record of this camera"))
        return True
    if camera.when_missing == "refuse" or source not in (ABSENT, camera.name):
        expected, got = f"{source}, the bundle's {camera.name}", ", ".join(have) or "no camera"
        raise BadInput(explain("cameras of the record", expected, got, "take a record that has it"))
    return False


def _require_same(data: RobotDataset, manifest: Manifest) -> None:
    period = manifest.timing.period_s
    if abs(data.period_s - period) > PERIOD_SLACK * period:
        got = f"{data.period_s * 1e3:g} ms"
        todo = "evaluate on a record of the rate that it was trained at"
        raise BadInput(explain("period of the record", f"{period * 1e3:g} ms, that of the bundle", got, todo))
    for what, told, wanted, unnamed in (
        ("action channels", data.action_names, tuple(channel.name for channel in manifest.channels), "action"),
        ("state", data.state_names, tuple(channel.name for channel in manifest.state), "state"),
    ):
        if told not in (wanted, numbered(unnamed, len(wanted))):
            todo = "evaluate on a record of the robot that it was trained for"
            raise BadInput(explain(f"{what} of the record", ", ".join(wanted), ", ".join(told), todo))
    if not all(np.isfinite(values).all() for values in (data.state, data.executed, data.action)):
        raise BadInput(explain("record", "finite numbers", "NaN or infinity", "record it again"))
