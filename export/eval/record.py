"""Recorded episodes as an evaluation sees them: observations, and actions in the units of the bundle's channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Manifest
from edgevla.errors import BadInput, Usage, explain
from export.data.interface import RobotDataset

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
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
    episodes: tuple[tuple[int, int], ...]  # first tick and one past the last, of each
    instruction: Callable[[int], str]
    image: Callable[[int], Uint8]  # tick -> (h, w, 3)


def record_of(name: str, data: RobotDataset, manifest: Manifest, scale: npt.ArrayLike = 1.0) -> Record:
    """The record of a dataset.

    Args:
        scale: (A,) or one number, channel units per unit of the dataset's actions.

    Raises:
        BadInput: recorded at another period or with other channels than the bundle's, or not finite.
    """
    _require_same(data, manifest)
    camera = manifest.camera.name
    factor = np.asarray(scale, np.float64)
    starts = np.unique(data.start)
    return Record(
        name,
        data.sha256,
        data.state,
        data.executed * factor,
        data.action * factor,
        data.state_names,
        tuple((int(first), int(data.end[first])) for first in starts),
        data.instruction,
        lambda tick: np.asarray(data.image([tick], camera)[0], np.uint8),
    )


def _require_same(data: RobotDataset, manifest: Manifest) -> None:
    period, names = manifest.timing.period_s, tuple(channel.name for channel in manifest.channels)
    if abs(data.period_s - period) > PERIOD_SLACK * period:
        got = f"{data.period_s * 1e3:g} ms"
        todo = "evaluate on a record of the rate that it was trained at"
        raise BadInput(explain("period of the record", f"{period * 1e3:g} ms, that of the bundle", got, todo))
    numbered = all(name.rpartition("_")[2].isdigit() for name in data.action_names)
    if len(data.action_names) != len(names) or (data.action_names != names and not numbered):
        got, todo = ", ".join(data.action_names), "evaluate on a record of the robot that it was trained for"
        raise BadInput(explain("action channels of the record", ", ".join(names), got, todo))
    if data.state.shape[1] != len(manifest.state):
        raise BadInput(
            explain(
                "state of the record", f"{len(manifest.state)} numbers", data.state.shape[1], "see cameras and state"
            )
        )
    if not all(np.isfinite(values).all() for values in (data.state, data.executed, data.action)):
        raise BadInput(explain("record", "finite numbers", "NaN or infinity", "record it again"))


def open_record(folder: Path, manifest: Manifest, work: Path) -> Record:
    """The record in a folder, in any format that `export.data` knows. Raises BadInput.

    Args:
        work: where decoded video is kept.
    """
    from export.channels import ACTION_SCALE
    from export.data.load import open_dataset
    from export.data.ours import OurData

    data = open_dataset(folder, work)
    # Our shards count displacements in units of the reference policy; other records are in the units of their robot.
    scale = ACTION_SCALE.astype(np.float64) if isinstance(data, OurData) else 1.0
    return record_of(folder.name, data, manifest, scale)


@dataclass(frozen=True)
class Selection:
    """Episodes taken from a record, by number, and how that was said."""

    numbers: tuple[int, ...]
    said: str


def select(record: Record, episodes: str, held_out: float) -> Selection:
    """Episodes named as `0-9,12`, or the last share of each instruction's episodes.

    Raises:
        Usage: no list of numbers, or a share outside (0, 1].
        BadInput: a number the record does not have.
    """
    if episodes:
        return Selection(_numbers(episodes, len(record.episodes)), f"episodes {episodes}")
    if not 0 < held_out <= 1:
        raise Usage(explain("--held-out", "a share in (0, 1], such as 0.1", held_out, "or name --episodes"))
    groups: dict[str, list[int]] = {}
    for number, (first, _) in enumerate(record.episodes):
        groups.setdefault(record.instruction(first), []).append(number)
    picked = [number for group in groups.values() for number in group[-max(1, round(held_out * len(group))) :]]
    return Selection(tuple(sorted(picked)), f"the last {100 * held_out:g} % of the episodes of each instruction")


def _numbers(text: str, count: int) -> tuple[int, ...]:
    try:
        ends = [(part.split("-")[0], part.split("-")[-1]) for part in text.split(",")]
        numbers = sorted({n for low, high in ends for n in range(int(low), int(high) + 1)})
    except ValueError as error:
        raise Usage(explain("--episodes", "numbers and ranges such as 0-9,12", text, "count from 0")) from error
    if not numbers or numbers[-1] >= count or numbers[0] < 0:
        raise BadInput(explain("--episodes", f"numbers from 0 to {count - 1}", text, "count from 0"))
    return tuple(numbers)


def frames_of(record: Record, selection: Selection, ahead: int, count: int) -> Int64:
    """Ticks spread evenly over the selected episodes, each with `ahead` ticks after it in its episode.

    Raises:
        BadInput: the selected episodes are all shorter than that.
    """
    ticks = [np.arange(first, end - ahead) for first, end in (record.episodes[n] for n in selection.numbers)]
    free = np.concatenate([np.asarray(part, np.int64) for part in ticks])
    if not free.size:
        raise BadInput(explain("selected episodes", f"longer than {ahead} ticks", "none is", "select others"))
    picked = np.linspace(0, free.size - 1, min(count, free.size)).round().astype(np.int64)
    chosen: Int64 = free[np.unique(picked)]
    return chosen
