"""LeRobotDatasets that the real library recorded (and ours): every row and frame, and every way to be wrong."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgevla.errors import BadInput, Usage
from export.data import lerobot as lerobot_module
from export.data.lerobot import LeRobotData, nearest
from export.data.lerobot_meta import read_parquet
from tests.export.data.counted import (
    ACTION,
    EPISODES,
    RECORDED,
    STATE,
    WHERE,
    action,
    picture,
    psnr_db,
    state,
    write,
)

DATA = "data/chunk-000/file-000.parquet"
EPISODES_FILE = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"


def opened(folder, work):
    return LeRobotData(Path(folder), Path(work), progress=False)


@pytest.fixture
def copy(tmp_path):
    """A copy of the recorded dataset with video, to be spoiled."""
    return Path(shutil.copytree(RECORDED / "video", tmp_path / "copy"))


@pytest.mark.parametrize("kind", ["video", "image"])
def test_the_rows_of_the_library_come_back_as_they_were_recorded(kind, tmp_path):
    data = opened(RECORDED / kind, tmp_path)
    assert len(data) == 24
    assert (data.state == np.stack([state(*where) for where in WHERE])).all()
    assert (data.action == np.stack([action(*where) for where in WHERE])).all()
    assert data.executed is data.action
    assert (data.state_names, data.action_names) == (STATE, ACTION)
    assert data.start.tolist() == [0] * 7 + [7] * 12 + [19] * 5
    assert data.end.tolist() == [7] * 7 + [19] * 12 + [24] * 5
    assert data.episode.tolist() == [0] * 7 + [1] * 12 + [2] * 5
    assert data.instructions == ["push it", "pull it"]
    assert [data.instruction(tick) for tick in (0, 18, 19)] == ["push it", "push it", "pull it"]
    assert (data.fps, data.period_s) == (10, 0.1)
    assert data.stats["action"]["max"] == pytest.approx([204, 0.1])


def test_pictures_in_rows_are_exact(tmp_path):
    data = opened(RECORDED / "image", tmp_path)
    expected = np.stack([picture(*where) for where in WHERE])
    assert (data.images(range(24))[:, 0] == expected).all()


def test_every_video_frame_is_that_of_its_tick(tmp_path):
    """The codec keeps 36 dB or more; a neighbouring tick is 18 levels of blue away, below 29 dB."""
    data = opened(RECORDED / "video", tmp_path)
    ticks = np.random.default_rng(0).permutation(24)
    pictures = data.image(ticks, "top")
    for tick, mine in zip(ticks, pictures, strict=True):
        assert psnr_db(mine, picture(*WHERE[tick])) > 35
        assert psnr_db(mine, picture(WHERE[tick][0], WHERE[tick][1] + 1)) < 29


def test_frames_are_decoded_once_and_kept(tmp_path, monkeypatch):
    first = opened(RECORDED / "video", tmp_path).image(range(24), "top")
    monkeypatch.setattr(lerobot_module, "decode_video", None)
    assert (opened(RECORDED / "video", tmp_path).image(range(24), "top") == first).all()


def test_a_cache_that_was_cut_short_is_made_again(tmp_path):
    first = opened(RECORDED / "video", tmp_path).image(range(24), "top")
    (kept,) = (tmp_path / "frames").glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-100])
    (tmp_path / "frames" / ".part-1-x.npy").write_bytes(b"left by a kill")
    assert (opened(RECORDED / "video", tmp_path).image(range(24), "top") == first).all()


def test_no_room_for_frames_is_said_before_any_is_decoded(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=24 * 64 * 96 * 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(BadInput, match="no room for decoded frames"):
        opened(RECORDED / "video", tmp_path).prepare()
    assert not list((tmp_path / "frames").iterdir())


def test_a_disk_that_fills_while_decoding_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "frames").mkdir()
    monkeypatch.setattr(lerobot_module, "decode_video", _full_after(lerobot_module.decode_video, tmp_path / "frames"))
    with pytest.raises(BadInput, match=r"(?s)cannot keep decoded frames.*No space left on device"):
        opened(RECORDED / "video", tmp_path).prepare()
    assert not list((tmp_path / "frames").iterdir())


def _full_after(real, folder):
    """Frames, the third of which goes to a file whose every write answers ENOSPC."""

    def frames(path):
        for number, frame in enumerate(real(path)):
            if number == 2:
                with open("/dev/full", "wb", buffering=0) as full:
                    full.write(b"x")
            yield frame

    return frames


def test_episodes_over_several_files_are_read_as_one(tmp_path):
    one = opened(write(tmp_path / "one"), tmp_path)
    many = opened(write(tmp_path / "many", data_file_mb=0, video_file_mb=0), tmp_path)
    assert len(list((tmp_path / "many" / "data").rglob("*.parquet"))) == 3
    assert len(list((tmp_path / "many" / "videos").rglob("*.mp4"))) == 3
    assert (many.state == one.state).all()
    ticks = [23, 0, 8, 18, 19]
    for mine, tick in zip(many.image(ticks, "top"), ticks, strict=True):
        assert psnr_db(mine, picture(*WHERE[tick])) > 32
    assert many.sha256 != one.sha256


def test_the_sha256_follows_the_files(copy, tmp_path):
    before = opened(RECORDED / "video", tmp_path).sha256
    assert opened(copy, tmp_path).sha256 == before
    alter(copy / "meta/info.json", lambda info: info["features"]["action"]["names"].reverse())
    assert opened(copy, tmp_path).sha256 != before


def alter(path, change):
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def alter_rows(path, column, change):
    """Replaces a column by what `change` makes of its values."""
    table = pq.read_table(path)
    index = table.column_names.index(column)
    field = table.schema.field(column)
    values = pa.array(change(table[column].to_pylist()), field.type)
    pq.write_table(table.set_column(index, field, values), path)


def drop_row(path, row):
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table[:row], table[row + 1 :]]), path)


def put(row, value):
    return lambda values: [*values[:row], value, *values[row + 1 :]]


SPOILED = {
    "version 2.1": (
        lambda f: alter(f / "meta/info.json", lambda i: i.update(codebase_version="v2.1")),
        r"codebase_version.*v3\.0.*v2\.1.*convert_dataset_v21_to_v30",
    ),
    "a later version": (
        lambda f: alter(f / "meta/info.json", lambda i: i.update(codebase_version="v4.0")),
        r"codebase_version.*v4\.0.*newer edgevla",
    ),
    "no row": (lambda f: alter(f / "meta/info.json", lambda i: i.update(total_frames=0)), "total_frames.*one or more"),
    "no info": (lambda f: (f / "meta/info.json").unlink(), r"meta/info\.json.*No such file"),
    "info is a pickle": (
        lambda f: (f / "meta/info.json").write_bytes(pickle.dumps({"fps": 10})),
        r"info\.json is not valid JSON",
    ),
    "rows are a pickle": (
        lambda f: (f / DATA).write_bytes(pickle.dumps([1, 2, 3] * 50)),
        r"parquet file .*data/chunk-000/file-000\.parquet",
    ),
    "no action": (
        lambda f: alter(f / "meta/info.json", lambda i: i["features"].pop("action")),
        "feature action.*a feature named action",
    ),
    "another shape of state": (
        lambda f: alter(f / "meta/info.json", lambda i: i["features"]["observation.state"].update(shape=[5])),
        r"observation\.state in .*5 numbers per row.*lengths \[3\]",
    ),
    "paths that lead outside": (
        lambda f: alter(f / "meta/info.json", lambda i: i.update(data_path="../{chunk_index}/{file_index}")),
        "data_path.*relative path",
    ),
    "paths that look into objects": (
        lambda f: alter(f / "meta/info.json", lambda i: i.update(video_path="{video_key.__class__}")),
        "video_path.*relative path",
    ),
    "a data file gone": (lambda f: (f / DATA).unlink(), r"data/chunk-000/file-000\.parquet.*episodes 0 to 2.*no such"),
    "a video gone": (lambda f: (f / VIDEO).unlink(), r"file-000\.mp4.*the file of episodes 0 to 2.*no such file"),
    "no list of episodes": (lambda f: shutil.rmtree(f / "meta/episodes"), r"meta/episodes.*chunk-\*.*none"),
    "an episode missing": (lambda f: drop_row(f / EPISODES_FILE, 1), r"episodes 0 to 2.*2 rows, missing \[1\]"),
    "a row missing": (lambda f: drop_row(f / DATA, 9), "rows of the dataset.*24, as info.json says.*23"),
    "a gap in frame_index": (
        lambda f: alter_rows(f / DATA, "frame_index", put(9, 3)),
        "frame_index of row 9.*expected: 2.*got: *3; 1 rows differ",
    ),
    "a gap in index": (lambda f: alter_rows(f / DATA, "index", put(9, 10)), "index of row 9"),
    "a row of another episode": (lambda f: alter_rows(f / DATA, "episode_index", put(9, 2)), "episode_index of row 9"),
    "a timestamp off the rate": (
        lambda f: alter_rows(f / DATA, "timestamp", put(9, 0.25)),
        r"timestamp of row 9.*0\.2000 s at 10 frames/s.*0\.2500 s; 1 rows are off",
    ),
    "a timestamp that is none": (
        lambda f: alter_rows(f / DATA, "timestamp", put(9, float("nan"))),
        "timestamp of row 9",
    ),
    "a video shorter than its rows": (
        lambda f: alter_rows(f / EPISODES_FILE, "videos/observation.images.top/from_timestamp", put(2, 2.1)),
        r"file-000\.mp4.*a frame at 2\.4000 s, for row 22 \(episode 2\).*24 frames up to 2\.3000 s; 2 rows have none",
    ),
    "NaN in an action": (
        lambda f: alter_rows(f / DATA, "action", put(20, [1.0, float("nan")])),
        r"action in .*finite numbers.*first 20 \(episode 2\)",
    ),
    "no number": (lambda f: alter_rows(f / DATA, "observation.state", put(3, None)), r"observation\.state.*1 missing"),
    "a task without a sentence": (lambda f: alter_rows(f / DATA, "task_index", put(3, 7)), "task_index.*0 to 1"),
    "a video that is none": (lambda f: (f / VIDEO).write_bytes(b"no video" * 100), r"video .*file-000\.mp4"),
    "grey pictures": (
        lambda f: alter(f / "meta/info.json", lambda i: i["features"]["observation.images.top"].update(shape=[64, 96])),
        r"observation\.images\.top.*three colours",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_dataset_is_refused_with_the_place(what, copy, tmp_path):
    spoil, message = SPOILED[what]
    spoil(copy)
    with pytest.raises(BadInput, match=f"(?s){message}"):
        opened(copy, tmp_path)


def test_a_video_of_another_size_is_refused_when_it_is_decoded(copy, tmp_path):
    alter(copy / "meta/info.json", lambda i: i["features"]["observation.images.top"].update(shape=[64, 64, 3]))
    with pytest.raises(BadInput, match=r"(?s)24 frames of 64 x 64.*frame 0 of 64 x 96"):
        opened(copy, tmp_path).image([0], "top")
    assert not list((tmp_path / "frames").iterdir())


def test_a_video_with_bytes_altered_in_the_middle_is_not_taken(copy, tmp_path):
    data = bytearray((copy / VIDEO).read_bytes())
    data[1500:3000] = bytes(1500)
    (copy / VIDEO).write_bytes(data)
    with pytest.raises(BadInput, match=r"(?s)(file-000\.mp4|pictures of)"):
        opened(copy, tmp_path).prepare()
    assert not list(tmp_path.glob("frames/*"))


def test_a_picture_that_is_none_is_refused_with_its_row(tmp_path):
    folder = Path(shutil.copytree(RECORDED / "image", tmp_path / "copy"))
    alter_rows(folder / DATA, "observation.images.top", put(5, {"bytes": b"GIF89a....", "path": "x.png"}))
    with pytest.raises(BadInput, match=r"(?s)observation\.images\.top of row 5.*PNG or JPEG"):
        opened(folder, tmp_path).prepare()
    alter_rows(folder / DATA, "observation.images.top", put(5, {"bytes": None, "path": "x.png"}))
    with pytest.raises(BadInput, match=r"(?s)row 5.*a path to another file"):
        opened(folder, tmp_path).prepare()


def test_names_that_a_recorder_left_out_are_numbers(copy, tmp_path):
    alter(copy / "meta/info.json", lambda i: i["features"]["action"].update(names=None))
    alter(
        copy / "meta/info.json", lambda i: i["features"]["observation.state"].update(names={"motors": ["a", "b", "c"]})
    )
    data = opened(copy, tmp_path)
    assert data.action_names == ("action_0", "action_1")
    assert data.state_names == ("a", "b", "c")


def test_a_missing_library_is_one_error_with_the_extra(monkeypatch, tmp_path):
    import sys

    for name in ("av", "pyarrow.parquet"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(Usage, match=r"pip install 'edgevla\[data\]'"):
                opened(RECORDED / "video", tmp_path)


def test_the_nearest_time_is_found():
    times = np.array([0.0, 0.1, 0.2, 0.3])
    assert nearest(times, np.array([-1, 0.04, 0.06, 0.1, 0.29, 9])).tolist() == [0, 0, 1, 1, 3, 3]
    assert nearest(times[:1], np.array([5.0])).tolist() == [0]
    assert nearest(times[:0], np.array([5.0])).tolist() == [0]


def test_columns_are_asked_for_by_name(tmp_path):
    assert read_parquet(RECORDED / "video" / DATA, ["index"]).num_rows == sum(EPISODES)
    with pytest.raises(BadInput, match=r"(?s)columns index, nothing.*no nothing"):
        read_parquet(RECORDED / "video" / DATA, ["index", "nothing"])
