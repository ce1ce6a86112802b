"""What a recorder may add to its shards: a camera of its own, and where things are."""

import json

import numpy as np
import pytest

from edgevla.errors import BadInput
from export.data.interface import Camera
from export.data.ours import OurData
from export.distill.dataset import Demonstrations
from tests.export.tiny import write_counting_dataset


@pytest.fixture
def copy(tmp_path):
    return write_counting_dataset(tmp_path / "data")


def tell(folder, **more):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def rewrite(path, **changes):
    with np.load(path) as archive:
        arrays = {**dict(archive), **changes}
    np.savez(path, **arrays)


def shards_of(folder):
    return sorted(folder.glob("*.npz"))


def test_without_a_camera_and_places_the_shards_are_the_reference_recorder_s(copy):
    data = OurData(copy)
    assert data.cameras == (Camera("corner", 96, 96),)
    assert data.places is None
    assert data.frame_rate_hz == pytest.approx(40.0)


def test_a_camera_of_another_size_is_read_with_its_pictures_and_rate(copy):
    tell(copy, camera={"name": "table", "height": 8, "width": 12}, frame_every=4)
    for shard in shards_of(copy):
        with np.load(shard) as archive:
            frames = len(archive["image"])
        rewrite(shard, image=np.zeros((frames, 8, 12, 3), np.uint8))
    data = OurData(copy)
    assert data.cameras == (Camera("table", 8, 12),)
    assert data.images([0, 1]).shape == (2, 1, 8, 12, 3)
    assert data.frame_rate_hz == pytest.approx(20.0)


def test_places_are_read_and_nan_where_a_shard_has_none(copy):
    first = shards_of(copy)[0]
    with np.load(first) as archive:
        ticks = len(archive["state"])
    rewrite(first, places=np.full((ticks, 9), 0.5, np.float32))
    data = Demonstrations(copy)
    assert (data.places.shape, data.places.dtype) == ((len(data), 9), np.float32)
    assert (data.places == 0.5).all(1).sum() == ticks
    assert np.isnan(data.places).all(1).sum() == len(data) - ticks > 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"camera": {"name": "table", "height": 128, "width": 128}}, r"image uint8 \(F, 128, 128, 3\)"),
        ({"camera": {"name": "table", "height": 0, "width": 128}}, "`height` is wrong"),
        ({"camera": {"height": 96, "width": 96}}, "`name` is wrong"),
        ({"camera": "table"}, "camera is wrong"),
        ({"frame_every": 0}, "`frame_every` is wrong"),
    ],
)
def test_a_camera_that_is_none_or_not_that_of_the_pictures_is_refused(copy, more, told):
    tell(copy, **more)
    with pytest.raises(BadInput, match=told):
        Demonstrations(copy)


@pytest.mark.parametrize(
    ("places", "told"),
    [
        (np.zeros((3, 9), np.float32), "places float32"),
        (np.zeros((90, 6), np.float32), "places float32"),
        (np.full((90, 9), np.inf, np.float32), "infinity in places"),
    ],
)
def test_wrong_places_are_refused(copy, places, told):
    rewrite(copy / "drawer-open-v3.npz", places=places)
    with pytest.raises(BadInput, match=told):
        Demonstrations(copy)
