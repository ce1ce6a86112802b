"""The FP32 graphs of a bundle, real frames of a dataset to judge them on, and others to calibrate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevla.bundle.reader import Bundle
from edgevla.bundle.wiring import once_per_instruction
from edgevla.errors import BadInput, explain
from export.data.interface import RobotDataset
from export.parity.recorded import bundle_feeds, split_ticks
from export.search.engines import Feeds

FRAMES = 320  # to judge on: the p99 is the fourth worst
CALIBRATION = 64


@dataclass(frozen=True)
class BundleFrames:
    """Feeds of one frame each. `note` says which episodes they come from."""

    judged: Sequence[Feeds]
    calibration: Sequence[Feeds]
    note: str


def bundle_frames(
    bundle: Bundle, data: RobotDataset, count: int = FRAMES, calibration: int = CALIBRATION, seed: int = 0
) -> BundleFrames:
    """Frames of ticks that `split_ticks` gives, with random prefixes.

    Raises:
        BadInput: the dataset is too small for that many frames, of another robot, or of other words.
    """
    split = split_ticks(data, count, calibration, seed)
    judged = bundle_feeds(bundle, data, split.judged, seed)
    return BundleFrames(judged, bundle_feeds(bundle, data, split.calibration, seed + 1), split.note)


def float_graphs(bundle: Bundle) -> tuple[dict[str, bytes], frozenset[str], tuple[float, ...]]:
    """FP32 graphs in the order they run, those that run once per instruction, times of the last where it is a flow.

    Raises:
        BadInput: the bundle has none.
    """
    stages = bundle.manifest.float_stages
    if not stages:
        raise BadInput(explain("FP32 graphs", "float/ in the bundle", "none", "export it with them"))
    graphs = {stage.name: bundle.model(stage.name, float_model=True) for stage in stages}
    return graphs, frozenset(stage.name for stage in once_per_instruction(stages)), stages[-1].times
