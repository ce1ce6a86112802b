"""A recording in any format that is known here."""

from __future__ import annotations

from pathlib import Path

from edgevla.errors import BadInput, explain
from export.data.interface import RobotDataset


def open_dataset(folder: Path, work: Path, progress: bool = True) -> RobotDataset:
    """Decided by what the folder holds: `dataset.json` is ours, `meta/info.json` is a LeRobotDataset.

    Args:
        folder: of the dataset.
        work: where decoded video is kept.
        progress: show how far the decoding is.

    Raises:
        BadInput: neither, or one that is not sound.
    """
    if (folder / "dataset.json").is_file():
        from export.data.ours import OurData

        return OurData(folder)
    if (folder / "meta" / "info.json").is_file():
        from export.data.lerobot import LeRobotData

        return LeRobotData(folder, work, progress=progress)
    expected = "dataset.json (ours) or meta/info.json (a LeRobotDataset)"
    raise BadInput(explain(f"dataset {folder}", expected, "neither", "check the path"))
