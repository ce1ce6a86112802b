"""Any dataset behind one interface: ours, a converted one, and whether it is of the teacher's robot."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgevla.errors import BadInput
from examples.metaworld.to_lerobot import convert
from export.data.interface import episode_bounds, require_same_embodiment
from export.data.lerobot import LeRobotData
from export.data.load import open_dataset
from export.data.ours import OurData
from export.data.video import Encoding
from export.teachers.interface import Affine, CameraSpec, TeacherSpec
from tests.export.data.counted import ACTION, RECORDED, STATE
from tests.export.tiny import EXPERT, LENGTHS, write_counting_dataset

IDENTITY = Affine(np.zeros(1, np.float32), np.ones(1, np.float32))
SPEC = TeacherSpec("act", (CameraSpec("top", 64, 96),), STATE, ACTION, 10, 0, 0, 0, IDENTITY, IDENTITY)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Counted demonstrations with their period, as the recorder writes it."""
    folder = write_counting_dataset(tmp_path_factory.mktemp("shards"))
    meta = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**meta, "period_s": 0.0125}))
    return folder


def test_our_shards_are_a_dataset(shards, tmp_path):
    data = open_dataset(shards, tmp_path)
    assert isinstance(data, OurData)
    assert len(data) == sum(map(sum, LENGTHS.values()))
    assert (data.fps, data.period_s) == (80.0, 0.0125)
    ticks = np.arange(135, dtype=np.float32)[:, None]
    assert data.executed == pytest.approx(ticks * [[0.01, 0.01, 0.01, 1.0]], rel=1e-6)  # m per tick, gripper effort
    assert data.action == pytest.approx((ticks + EXPERT) * [[0.01, 0.01, 0.01, 1.0]], rel=1e-6)
    assert data.episode[[0, 49, 50, 89, 90, 134]].tolist() == [0, 0, 1, 1, 2, 2]
    assert (data.start[60], data.end[60]) == (50, 90)
    assert data.instruction(0) == "open the drawer"
    assert data.instruction(134) == "close the window"
    assert "shut the window" in data.wordings[data.task_index[134]]
    assert data.images([0, 1, 2]).shape == (3, 1, 96, 96, 3)
    assert data.images([0, 1, 2])[:, 0, 0, 0, 0].tolist() == [0, 0, 1]
    assert data.state_names == ("hand_x", "hand_y", "hand_z", "gripper")


def test_the_sha256_of_our_shards_follows_their_bytes(shards, tmp_path):
    again = write_counting_dataset(tmp_path)
    (again / "dataset.json").write_bytes((shards / "dataset.json").read_bytes())
    before = OurData(again).sha256
    assert before == OurData(again).sha256
    (again / "dataset.json").write_text((again / "dataset.json").read_text() + "\n")
    assert OurData(again).sha256 != before


def without_period(folder):
    path = folder / "dataset.json"
    path.write_text(path.read_text().replace('"period_s": 0.0125, ', ""))
    assert "period_s" not in path.read_text()
    return folder


def test_shards_without_a_period_are_refused(tmp_path):
    with pytest.raises(BadInput, match="period_s"):
        OurData(without_period(write_counting_dataset(tmp_path)))


def test_demonstrations_converted_to_lerobot_are_the_same_dataset(shards, tmp_path, capsys):
    convert(shards, tmp_path / "made", None, Encoding("h264", crf=1), progress=False)
    assert "3 episodes, 135 ticks at 80 Hz" in capsys.readouterr().out
    ours, theirs = OurData(shards), open_dataset(tmp_path / "made", tmp_path, progress=False)
    assert isinstance(theirs, LeRobotData)
    for name in ("state", "action", "executed", "start", "end", "episode", "task_index"):
        assert (getattr(ours, name) == getattr(theirs, name)).all(), name
    assert ours.instructions == theirs.instructions
    assert (ours.state_names, ours.action_names) == (theirs.state_names, theirs.action_names)
    assert theirs.info.state.units == ("m", "m", "m", "1")
    assert theirs.info.action.units == ("m per tick", "m per tick", "m per tick", "1")
    ticks = np.arange(0, 135, 7)
    difference = ours.images(ticks).astype(int) - theirs.images(ticks)
    assert np.abs(difference).max() <= 2  # of 255, from RGB to the codec's colours and back


def test_some_episodes_of_each_instruction_are_converted(shards, tmp_path):
    convert(shards, tmp_path / "made", 1, Encoding("h264"), progress=False)
    made = open_dataset(tmp_path / "made", tmp_path, progress=False)
    assert np.bincount(made.episode).tolist() == [50, 45]


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"dataset\.json \(ours\) or meta/info\.json"):
        open_dataset(tmp_path, tmp_path)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return LeRobotData(RECORDED / "video", tmp_path_factory.mktemp("work"), progress=False)


def test_a_dataset_of_the_teacher_s_robot_is_taken(recorded):
    require_same_embodiment(recorded, SPEC)
    require_same_embodiment(recorded, replace(SPEC, state=("state_0", "state_1", "state_2")))
    padded = replace(SPEC.cameras[0], height=512, width=512, fit="pad")
    absent = CameraSpec("wrist", 64, 96, when_missing="blank")
    require_same_embodiment(recorded, replace(SPEC, cameras=(padded, absent)))


OTHER = {
    "fewer joints": ({"state": ("x", "y")}, "state of the dataset.*2 numbers: x, y.*3: x, y, z"),
    "other joints": ({"state": ("x", "y", "yaw")}, "state of the dataset.*yaw"),
    "another order": ({"actions": ("dy", "dx")}, "action of the dataset.*dy, dx.*dx, dy"),
    "unnamed but more": ({"actions": ("action_0",)}, "action of the dataset.*1 numbers"),
    "another camera": ({"cameras": (CameraSpec("wrist", 64, 96),)}, "camera of the dataset.*a camera wrist.*top"),
    "another size": ({"cameras": (CameraSpec("top", 48, 64),)}, "camera top.*48 x 64.*64 x 96"),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_dataset_of_another_robot_is_refused(recorded, what):
    changes, message = OTHER[what]
    with pytest.raises(BadInput, match=f"(?s){message}"):
        require_same_embodiment(recorded, replace(SPEC, **changes))


def test_bounds_follow_the_episode_numbers():
    start, end = episode_bounds(np.array([4, 4, 4, 0, 7, 7]))
    assert start.tolist() == [0, 0, 0, 3, 4, 4]
    assert end.tolist() == [3, 3, 3, 4, 6, 6]
