"""Turns recorded demonstrations into a LeRobotDataset v3.0, which LeRobot trains on and `edgevla compress` reads.

    python -m examples.metaworld.to_lerobot out/data -o out/lerobot --episodes 20

Per tick: state (m), the expert's action (m per tick, gripper effort), the action that was executed (with its
disturbance), the newest picture, the instruction. Names and units stand in meta/info.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgevla.errors import BadInput, explain
from export.channels import STATE
from export.data.ours import OurData
from export.data.video import Encoding
from export.data.writer import Episode, Layout, LeRobotWriter
from export.distill.progress import Reporter

ACTION_UNITS = ("m per tick",) * 3 + ("1",)


def layout(data: OurData, encoding: Encoding, video: bool) -> Layout:
    """What these demonstrations are. Raises BadInput where the rate is no whole number, which the format needs."""
    fps = round(data.fps)
    if abs(data.fps - fps) > 1e-6:
        raise BadInput(
            explain("rate of the dataset", "whole ticks per second", f"{data.fps}", "record at another rate")
        )
    return Layout(
        fps=fps,
        state_names=data.state_names,
        action_names=data.action_names,
        cameras=data.cameras,
        state_units=tuple(unit for _, unit in STATE),
        action_units=ACTION_UNITS,
        executed=True,
        robot_type="metaworld_sawyer",
        video=video,
        encoding=encoding,
    )


def first_ticks(data: OurData, per_task: int | None) -> list[int]:
    """First ticks of the episodes to convert: all, or the first few of each instruction."""
    starts, counts, kept = np.unique(data.start), dict.fromkeys(range(len(data.instructions)), 0), []
    for start in starts.tolist():
        task = int(data.task_index[start])
        counts[task] += 1
        if per_task is None or counts[task] <= per_task:
            kept.append(start)
    return kept


def episodes(data: OurData, starts: list[int]) -> Iterator[Episode]:
    """The episodes that start there."""
    for start in starts:
        ticks = np.arange(start, data.end[start])
        images = {camera.name: data.image(ticks, camera.name) for camera in data.cameras}
        yield Episode(data.state[ticks], data.action[ticks], images, data.instruction(start), data.executed[ticks])


def convert(
    folder: Path, out: Path, per_task: int | None, encoding: Encoding, video: bool = True, progress: bool = True
) -> None:
    """Writes the dataset `out`, all of it or none."""
    data = OurData(folder)
    starts = first_ticks(data, per_task)
    reporter = Reporter(f"writing {len(starts)} episodes", len(starts), progress)
    try:
        with LeRobotWriter(out, layout(data, encoding, video)) as writer:
            for done, episode in enumerate(episodes(data, starts), 1):
                writer.add(episode)
                reporter.show(done, episode.task)
    finally:
        reporter.close()
    ticks = sum(int(data.end[start]) - start for start in starts)
    print(
        f"{out}: {len(starts)} episodes, {ticks} ticks at {round(data.fps)} Hz, {len(data.instructions)} instructions"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that examples.metaworld.demos has recorded")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write; not there yet")
    parser.add_argument("--episodes", type=int, help="per instruction (default: all)")
    parser.add_argument("--codec", default="libsvtav1", help="libsvtav1 or h264 (default %(default)s)")
    parser.add_argument("--crf", type=int, default=30, help="0 is the best picture (default %(default)s)")
    parser.add_argument("--png", action="store_true", help="pictures in the rows, without loss, instead of video")
    arguments = parser.parse_args()
    encoding = Encoding(arguments.codec, arguments.crf)
    convert(arguments.data, arguments.out, arguments.episodes, encoding, video=not arguments.png)


if __name__ == "__main__":
    main()
