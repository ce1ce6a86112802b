"""Recorded episodes as an evaluation sees them: observations, and actions in the units of the bundle's channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Manifest
from edgevla.errors import BadInput, explain
from export.data.interface import RobotDataset, numbered
from export.data.mapped import camera_sources

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Uint8 = npt.NDArray[np.uint8]
PERIOD_SLACK = 1e-3  # relative: 33.3 ms and 1/30 s are the same


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

    def before(self, tick: int, observations: int, spacing: int = 1) -> range:
        """Ticks of the observations that a policy of so many sees besides the tick's own, none of another episode."""
        first = max(first for first, _ in self.episodes if first <= tick)
        most = min(observations - 1, (tick - first) // spacing)
        return range(tick - most * spacing, tick, spacing)


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
    """The record in a folder, in any format that `export.data` knows, or what FILE.py:FUNCTION returns.

    Args:
        folder: as typed.
        manifest: of the bundle.
        work: where decoded video is kept.

    Raises:
        BadInput: there is none, or it is of another robot.
    """
    from export.distill.opening import open_data

    data: Any = open_data(str(folder), work)
    return record_of(folder.name, data, manifest)


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
