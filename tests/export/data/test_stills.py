"""Pictures without actions are read whole, or refused with what is wrong."""

import json

import numpy as np
import pytest

from edgevla.errors import BadInput
from export.data.stills import Stills

SIDE = 8
META = {
    "schema": "edgevla.stills/1",
    "camera": {"name": "table", "height": SIDE, "width": SIDE},
    "shards": [{"file": "one.npz", "task": "push"}, {"file": "two.npz", "task": "reach"}],
    "instructions": {"push": {"train": ["push it", "push"]}, "reach": {"train": ["reach it"]}},
    "vocabulary": ["it", "push", "reach"],
}


def arrays(count, value):
    places = np.full((count, 9), np.nan, np.float32)
    places[:, 6:] = value
    image = np.full((count, SIDE, SIDE, 3), value, np.uint8)
    return {"image": image, "state": np.zeros((count, 4), np.float32), "places": places}


@pytest.fixture
def folder(tmp_path):
    """Two shards, of 3 and 2 pictures."""
    np.savez(tmp_path / "one.npz", **arrays(3, 1))
    np.savez(tmp_path / "two.npz", **arrays(2, 2))
    (tmp_path / "dataset.json").write_text(json.dumps(META))
    return tmp_path


def test_every_picture_has_its_task_its_words_and_its_places(folder):
    stills = Stills(folder)
    assert (len(stills), stills.tasks, stills.names) == (5, ["push", "reach"], ["push", "reach"])
    assert stills.task_index.tolist() == stills.shard.tolist() == [0, 0, 0, 1, 1]
    assert stills.wordings == [["push it", "push"], ["reach it"]]
    assert stills.sentences["reach"] == stills.instructions[1:] == ["reach it"]
    assert stills.places[:, 8].tolist() == [1, 1, 1, 2, 2]
    assert np.isnan(stills.places[:, :6]).all()
    assert stills.images(np.array([4, 0]))[:, 0, 0, 0].tolist() == [2, 1]
    assert (stills.camera.name, stills.camera.height) == ("table", SIDE)


def test_the_hash_is_that_of_the_files(folder):
    before = Stills(folder).sha256
    assert Stills(folder).sha256 == before
    np.savez(folder / "two.npz", **arrays(2, 3))
    assert Stills(folder).sha256 != before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": "edgevla.demos/1"}, "schema of the stills"),
        ({"camera": {"name": "table", "height": 0, "width": 8}}, "height"),
        ({"camera": {"name": "table", "height": 9, "width": 8}}, "image uint8 \\(F, 9, 8, 3\\)"),
        ({"shards": []}, "shards"),
        ({"shards": [{"file": "../one.npz", "task": "push"}]}, "a file in this folder"),
        ({"shards": [{"file": "one.npz", "task": "dance"}]}, "task"),
        ({"shards": [{"file": "three.npz", "task": "push"}]}, "no such file"),
        ({"vocabulary": ["it", "it"]}, "a word twice"),
        ({"instructions": {"push": {}, "reach": {}}}, "train"),
    ],
)
def test_a_folder_that_says_something_else_is_refused(folder, changes, told):
    (folder / "dataset.json").write_text(json.dumps(META | changes))
    with pytest.raises(BadInput, match=told):
        Stills(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image": np.zeros((2, SIDE, SIDE), np.uint8)}, "image uint8"),
        ({"image": np.zeros((0, SIDE, SIDE, 3), np.uint8)}, "one row per picture"),
        ({"state": np.zeros((3, 4), np.float32)}, "state float32"),
        ({"places": np.zeros((2, 9))}, "places float32"),
        ({"places": np.zeros((2, 8), np.float32)}, "x, y, z of each thing"),
        ({"places": np.full((2, 9), np.inf, np.float32)}, "NaN or infinity"),
        ({"state": np.full((2, 4), np.nan, np.float32)}, "NaN or infinity"),
        ({"places": np.zeros((2, 6), np.float32)}, "as many columns in every shard"),
    ],
)
def test_a_shard_with_wrong_arrays_is_refused(folder, changes, told):
    np.savez(folder / "two.npz", **(arrays(2, 2) | changes))
    with pytest.raises(BadInput, match=told):
        Stills(folder)


def test_a_cut_shard_and_a_missing_folder_are_refused(folder):
    whole = (folder / "two.npz").read_bytes()
    (folder / "two.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"a whole two\.npz"):
        Stills(folder)
    with pytest.raises(BadInput, match="python -m examples"):
        Stills(folder / "nothing")
