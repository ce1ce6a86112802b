"""LeRobotDataset both ways: we write and the library reads, the library writes and we read. Same rows, same frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.data.interface import Camera
from export.data.lerobot import LeRobotData
from export.data.video import Encoding
from tests.export.data.counted import EPISODES, FPS, TASKS, WHERE, action, episode, picture, psnr_db, state, write
from tests_lerobot.build import prepare_library
from tests_lerobot.recorded import record

KEY = "observation.images.top"
NO_DECODER = "this torchvision has no VideoReader, by which LeRobot decodes; requirements/lerobot.txt names one with it"


def library_dataset(folder: Path, **options: Any) -> Any:
    prepare_library()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("a/b", root=folder, **options)


def ours(folder: Path, work: Path) -> LeRobotData:
    return LeRobotData(folder, work, progress=False)


def require_decoder() -> None:
    prepare_library()
    import torchvision

    if not hasattr(torchvision.io, "VideoReader"):
        pytest.skip(NO_DECODER)


def pixels(item: Any) -> np.ndarray:
    """uint8 (h, w, 3) of the library's float picture."""
    return (item[KEY].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)


def require_same(theirs: Any, mine: LeRobotData) -> None:
    """Every row and every frame, bit by bit."""
    assert len(theirs) == len(mine)
    pictures = mine.image(range(len(mine)), "top")
    for tick in range(len(mine)):
        item = theirs[tick]
        assert (item["observation.state"].numpy() == mine.state[tick]).all()
        assert (item["action"].numpy() == mine.action[tick]).all()
        assert item["task"] == mine.instruction(tick)
        assert item["episode_index"].item() == mine.episode[tick]
        assert item["frame_index"].item() == tick - mine.start[tick]
        assert (pixels(item) == pictures[tick]).all()


WRITTEN = {
    "av1": {"encoding": Encoding(threads=1)},
    "h264": {"encoding": Encoding("h264", crf=18)},
    "several files": {"encoding": Encoding("h264"), "data_file_mb": 0, "video_file_mb": 0},
    "pictures": {"video": False},
}


@pytest.mark.parametrize("how", WRITTEN)
def test_the_library_reads_what_we_write(how: str, tmp_path: Path) -> None:
    if how != "pictures":
        require_decoder()
    folder = write(tmp_path / "made", **WRITTEN[how])
    theirs = library_dataset(folder)
    require_same(theirs, ours(folder, tmp_path))
    for tick, where in enumerate(WHERE):
        item = theirs[tick]
        assert (item["observation.state"].numpy() == state(*where)).all()
        assert (item["action"].numpy() == action(*where)).all()
        assert psnr_db(pixels(item), picture(*where)) > 32
    assert theirs.meta.stats["action"]["mean"] == pytest.approx(np.mean([action(*w) for w in WHERE], axis=0))


@pytest.mark.parametrize("kind", ["video", "image"])
def test_we_read_what_the_library_writes(kind: str, tmp_path: Path) -> None:
    if kind == "video":
        require_decoder()
    record(tmp_path / "made", kind)
    mine = ours(tmp_path / "made", tmp_path)
    assert (mine.state == np.stack([state(*where) for where in WHERE])).all()
    require_same(library_dataset(tmp_path / "made"), mine)


def test_we_read_what_the_library_puts_into_several_files(tmp_path: Path) -> None:
    require_decoder()
    record(tmp_path / "made", "video", file_mb=1e-6)
    assert len(list((tmp_path / "made" / "videos").rglob("*.mp4"))) == len(EPISODES)
    assert len(list((tmp_path / "made" / "data").rglob("*.parquet"))) == len(EPISODES)
    require_same(library_dataset(tmp_path / "made"), ours(tmp_path / "made", tmp_path))


def test_the_library_goes_on_with_our_recording(tmp_path: Path) -> None:
    require_decoder()
    folder = write(tmp_path / "made", encoding=Encoding(threads=1))
    theirs = library_dataset(folder)
    for tick in range(EPISODES[0]):
        row = {"observation.state": state(0, tick), "action": action(0, tick), KEY: picture(0, tick), "task": "lift it"}
        theirs.add_frame(row)
    theirs.save_episode(parallel_encoding=False)
    theirs.finalize()
    mine = ours(folder, tmp_path)
    assert len(mine) == len(WHERE) + EPISODES[0]
    assert mine.instruction(len(mine) - 1) == "lift it"
    require_same(library_dataset(folder), mine)


def test_the_library_looks_ahead_in_our_recording(tmp_path: Path) -> None:
    """A chunk of actions, padded at the end of an episode, as its training asks for."""
    folder = write(tmp_path / "made", video=False)
    theirs = library_dataset(folder, delta_timestamps={"action": [0.0, 1 / FPS, 2 / FPS]})
    item = theirs[5]
    assert (item["action"].numpy() == np.stack([action(0, 5), action(0, 6), action(0, 6)])).all()
    assert item["action_is_pad"].tolist() == [False, False, True]


def test_the_library_s_tools_take_our_recording_apart(tmp_path: Path) -> None:
    """They need the statistics and places of each episode."""
    folder = write(tmp_path / "made", video=False)
    theirs = library_dataset(folder)
    from lerobot.datasets.dataset_tools import delete_episodes

    delete_episodes(theirs, [1], output_dir=tmp_path / "less", repo_id="a/less")
    mine = ours(tmp_path / "less", tmp_path)
    kept = [where for where in WHERE if where[0] != 1]
    assert (mine.action == np.stack([action(*where) for where in kept])).all()
    assert (mine.images(range(len(mine)))[:, 0] == np.stack([picture(*where) for where in kept])).all()
    assert mine.instruction(len(mine) - 1) == TASKS[2]


def test_units_of_a_feature_do_not_disturb_the_library(tmp_path: Path) -> None:
    units = {"state_units": ("m", "m", "rad"), "action_units": ("m", "m")}
    folder = write(tmp_path / "made", video=False, **units)
    assert library_dataset(folder).meta.features["observation.state"]["units"] == ["m", "m", "rad"]
    assert ours(folder, tmp_path).info.state.units == ("m", "m", "rad")


def test_one_number_and_what_was_executed_pass_through_the_library(tmp_path: Path) -> None:
    from export.data.writer import LeRobotWriter
    from tests.export.data.counted import layout

    laid_out = layout(state_names=("x",), executed=True, video=False, cameras=(Camera("top", 64, 96),))
    with LeRobotWriter(tmp_path / "made", laid_out) as writer:
        for number, ticks in enumerate(EPISODES):
            one = np.arange(ticks, dtype=np.float32)[:, None]
            writer.add(episode(number, state=one, executed=np.full((ticks, 2), number, np.float32)))
    item = library_dataset(tmp_path / "made")[8]
    assert item["observation.state"].tolist() == 1.0
    assert item["executed"].tolist() == [1.0, 1.0]
