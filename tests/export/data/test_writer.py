"""What we write as a LeRobotDataset: all of it or nothing, and the same when read back."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from edgevla.errors import BadInput
from export.data.interface import Camera
from export.data.lerobot import LeRobotData
from export.data.stats import merged, picture_stats, vector_stats
from export.data.video import Encoding, VideoWriter, decode_picture, encode_png
from export.data.writer import LeRobotWriter
from tests.export.data.counted import EPISODES, RECORDED, WHERE, action, episode, layout, picture, psnr_db, state, write

ENCODINGS = {"h264": Encoding("h264", crf=20), "av1": Encoding(threads=1)}


def opened(folder, work):
    return LeRobotData(folder, work, progress=False)


def made(folder, as_laid_out, *episodes):
    with LeRobotWriter(folder, as_laid_out) as writer:
        for one in episodes:
            writer.add(one)


@pytest.mark.parametrize("codec", ENCODINGS)
def test_what_is_written_is_read_back(tmp_path, codec):
    data = opened(write(tmp_path / "made", encoding=ENCODINGS[codec]), tmp_path)
    assert (data.state == np.stack([state(*where) for where in WHERE])).all()
    assert (data.action == np.stack([action(*where) for where in WHERE])).all()
    assert data.episode.tolist() == [e for e, _ in WHERE]
    assert data.instructions == ["push it", "pull it"]
    for mine, where in zip(data.image(range(24), "top"), WHERE, strict=True):
        assert psnr_db(mine, picture(*where)) > 32
    info = json.loads((tmp_path / "made/meta/info.json").read_text())["features"]["observation.images.top"]["info"]
    assert (info["video.codec"], info["video.fps"]) == (codec, 10)


def test_the_encoder_takes_nobodys_place_in_the_schedule(tmp_path):
    """As root, SVT-AV1 moves its threads and the caller's to SCHED_FIFO 99: above a servo, until the process ends."""
    writer = VideoWriter(tmp_path / "one.mp4", 30, 64, 64, Encoding(threads=1))
    writer.add(np.zeros((64, 64, 3), np.uint8))
    threads = {int(name): os.sched_getscheduler(int(name)) for name in os.listdir("/proc/self/task")}
    writer.close()
    assert len(threads) > 2
    assert os.SCHED_FIFO not in threads.values()
    assert os.sched_getscheduler(0) != os.SCHED_FIFO


def test_pictures_in_rows_are_kept_without_loss(tmp_path):
    data = opened(write(tmp_path / "made", video=False), tmp_path)
    assert (data.images(range(24))[:, 0] == np.stack([picture(*where) for where in WHERE])).all()


def test_the_tables_have_the_columns_and_types_of_the_library(tmp_path):
    folder = write(tmp_path / "made", encoding=Encoding(threads=1))
    for file in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"):
        mine, theirs = (pq.read_schema(root / file) for root in (folder, RECORDED / "video"))
        large = {name: str(theirs.field(name).type).replace("large_", "") for name in theirs.names}
        assert {name: str(mine.field(name).type) for name in mine.names} == large
    theirs, mine = (json.loads((root / "meta/info.json").read_text()) for root in (RECORDED / "video", folder))
    theirs["robot_type"] = None
    assert mine == theirs


def test_statistics_are_those_of_the_library(tmp_path):
    """Its quantiles come from 5,000 bins; its deviation of pictures from squares of uint8, which overflow: not ours."""
    folder = write(tmp_path / "made", video=False)
    mine, theirs = (json.loads((root / "meta/stats.json").read_text()) for root in (folder, RECORDED / "image"))
    assert mine.keys() == theirs.keys()
    for feature, of in theirs.items():
        for name in of:
            if name != "std" or "image" not in feature:
                reach = np.ptp([of["min"], of["max"]], axis=0)
                tolerance = reach * (0.2 if name.startswith("q") else 1e-6) + 1e-6
                assert (np.abs(np.array(mine[feature][name]) - of[name]) <= tolerance).all(), (feature, name)
    pixels = np.stack([picture(*where) for where in WHERE]) / 255.0
    assert np.ravel(mine["observation.images.top"]["std"]) == pytest.approx(pixels.std((0, 1, 2)), rel=1e-6)


def test_one_number_per_row_and_what_was_executed(tmp_path):
    with LeRobotWriter(tmp_path / "made", layout(state_names=("x",), executed=True)) as writer:
        for number in range(3):
            ticks = EPISODES[number]
            one = np.arange(ticks, dtype=np.float32)[:, None]
            writer.add(episode(number, state=one, executed=np.full((ticks, 2), number, np.float32)))
    data = opened(tmp_path / "made", tmp_path)
    assert data.state.shape == (24, 1)
    assert data.executed[:, 0].tolist() == data.episode.tolist()
    assert (data.action == np.stack([action(*where) for where in WHERE])).all()


BAD = {
    "NaN": ({"state": np.full((7, 3), np.nan, np.float32)}, "state .*finite numbers"),
    "another width": ({"action": np.zeros((7, 3), np.float32)}, r"action .*\(7, 2\)"),
    "fewer actions": ({"action": np.zeros((6, 2), np.float32)}, r"action .*\(7, 2\)"),
    "no tick": ({"state": np.zeros((0, 3), np.float32)}, "state .*T > 0"),
    "another camera": ({"images": {"side": np.zeros((7, 64, 96, 3), np.uint8)}}, "images .*top.*side"),
    "float pictures": ({"images": {"top": np.zeros((7, 64, 96, 3), np.float32)}}, "uint8"),
    "no sentence": ({"task": ""}, "task .*a sentence"),
    "executed here only": ({"executed": np.zeros((7, 2), np.float32)}, "executed .*in every episode"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_episode_is_refused_and_nothing_is_left(tmp_path, what):
    changes, message = BAD[what]
    with pytest.raises(BadInput, match=f"(?s){message}"):
        made(tmp_path / "made", layout(), episode(1), episode(0, **changes))
    assert not list(tmp_path.iterdir())


def test_a_dataset_without_episodes_is_not_written(tmp_path):
    with pytest.raises(BadInput, match=r"(?s)episodes .*one or more"), LeRobotWriter(tmp_path / "made", layout()):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(BadInput, match="not there yet"):
        LeRobotWriter(tmp_path / "made", layout())
    assert not list((tmp_path / "made").iterdir())


def test_a_size_or_rate_or_codec_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(BadInput, match="whole number of ticks per second"):
        LeRobotWriter(tmp_path / "made", layout(fps=12.5))
    for encoding, size in ((Encoding("h264"), (63, 96)), (Encoding(), (62, 96))):
        with pytest.raises(BadInput, match=f"{size[0]} x 96"):
            LeRobotWriter(tmp_path / "made", layout(encoding=encoding, cameras=(Camera("top", *size),)))
    with pytest.raises(BadInput, match="video codec"):
        made(tmp_path / "made", layout(encoding=Encoding("mpeg9")), episode(0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("video", [True, False])
def test_a_disk_that_refuses_more_bytes_leaves_nothing(tmp_path, video):
    """A limit of the system on the size of a file stands in for the full disk: the same error path, EFBIG."""
    noise = np.random.default_rng(0).integers(0, 256, (7, 64, 96, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            made(tmp_path / "made", layout(video=video), *[episode(0, images={"top": noise})] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


KILLED = """
import sys, pathlib
from export.data.writer import LeRobotWriter
from tests.export.data.counted import episode, layout
with LeRobotWriter(pathlib.Path(sys.argv[1]), layout()) as writer:
    while True:
        writer.add(episode(1))
        print("added", flush=True)
"""


def test_a_kill_in_the_middle_leaves_no_dataset_and_no_obstacle(tmp_path):
    root = Path(__file__).parents[3]
    job = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "made"], cwd=root, stdout=subprocess.PIPE)
    assert job.stdout.readline() == b"added\n"
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    assert not (tmp_path / "made").exists()
    assert len(opened(write(tmp_path / "made"), tmp_path)) == len(WHERE)


def test_statistics_of_parts_are_those_of_the_whole():
    values = np.random.default_rng(1).normal(3, 2, (60, 4))
    parts = merged([vector_stats(values[:10]), vector_stats(values[10:])])
    whole = vector_stats(values)
    for name in ("min", "max", "mean", "std", "count"):
        assert parts[name] == pytest.approx(whole[name])


def test_statistics_of_pictures_count_pixels():
    pictures = np.random.default_rng(1).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    stats, pixels = picture_stats(pictures), pictures.reshape(-1, 3) / 255.0
    assert stats["mean"].shape == (3, 1, 1)
    assert np.ravel(stats["mean"]) == pytest.approx(pixels.mean(0))
    assert np.ravel(stats["std"]) == pytest.approx(pixels.std(0))
    assert np.ravel(stats["q90"]) == pytest.approx(np.quantile(pixels, 0.9, axis=0), abs=2 / 255)


def test_a_png_is_without_loss():
    noise = np.random.default_rng(2).integers(0, 256, (17, 33, 3), dtype=np.uint8)
    assert (decode_picture(encode_png(noise), "here") == noise).all()
