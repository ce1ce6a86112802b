"""What breaks a policy that passes every golden vector is found in one picture: colours, orientation, camera."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgevla.sensors.compare import GRID, compare, correlation, grid_of, look_of, swapped_cameras, swapped_gain

sys.path.insert(0, str(Path(__file__).parent))

from scenes import TRAINED, gripper, shaken, table


def test_the_same_view_with_noise_and_a_moved_box_is_right():
    found = compare("front", table(noise=8, move=6), TRAINED)
    assert found.similarity > 0.8
    assert (found.wrong, found.doubtful) == ((), ())


def test_exchanged_red_and_blue_are_found():
    assert compare("front", table(noise=5)[..., ::-1], TRAINED).wrong == ("red and blue are exchanged",)
    assert compare("wrist", gripper(noise=5)[..., ::-1], TRAINED).wrong == ("red and blue are exchanged",)


@pytest.mark.parametrize(
    ("turned", "word"),
    [(np.s_[::-1, ::-1], "upside down"), (np.s_[:, ::-1], "mirrored"), (np.s_[::-1], "flipped")],
)
@pytest.mark.parametrize("name", ["front", "wrist"])
def test_a_turned_picture_is_found(turned, word, name):
    live = shaken(TRAINED[name][turned].astype(float), 5)
    assert compare(name, live, TRAINED).wrong == (f"the picture is {word}",)


def test_a_picture_turned_and_exchanged_is_said_to_be_both():
    wrong = compare("front", table(5)[::-1, ::-1, ::-1], TRAINED).wrong
    assert wrong == ("red and blue are exchanged", "the picture is upside down")


def test_swapped_cameras_are_found_and_said():
    found = {"front": compare("front", gripper(5), TRAINED), "wrist": compare("wrist", table(5), TRAINED)}
    assert found["front"].wrong == ("it shows the view of camera wrist",)
    assert swapped_cameras(found) == [("front", "wrist")]


def test_cameras_in_their_places_are_not_swapped():
    found = {"front": compare("front", table(5), TRAINED), "wrist": compare("wrist", gripper(5), TRAINED)}
    assert swapped_cameras(found) == []
    assert all(not one.wrong for one in found.values())


def test_a_camera_that_sees_what_another_sees_too_is_one_wrong_camera_and_no_swap():
    found = {"front": compare("front", gripper(5), TRAINED), "wrist": compare("wrist", gripper(5), TRAINED)}
    assert swapped_cameras(found) == []
    assert found["front"].wrong == ("it shows the view of camera wrist",)


def test_another_room_is_another_view():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert compare("front", noise, TRAINED).wrong[0].startswith("another view: similarity ")


def test_another_size_is_wrong_and_still_compared():
    found = compare("front", table()[::2, ::2], TRAINED)
    assert found.wrong == ("32 x 32, trained with 64 x 64",)
    assert found.similarity > 0.9


def test_a_dark_a_bright_and_a_blurred_picture_are_doubtful():
    dark = (table() * 0.6).astype(np.uint8)
    assert "mean colour is off by -" in compare("front", dark, TRAINED).doubtful[0]
    bright = np.clip(table().astype(int) * 3, 0, 255).astype(np.uint8)
    assert any("is white: check the exposure" in line for line in compare("front", bright, TRAINED).doubtful)
    shifted = [np.roll(table(), (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)]
    smooth = np.mean(shifted, 0).astype(np.uint8)
    found = compare("front", smooth, TRAINED)
    assert not found.wrong
    assert any(line.startswith("blurred: sharpness") for line in found.doubtful)


def test_grey_pictures_cannot_tell_red_from_blue():
    grey = np.repeat(table().mean(2, keepdims=True), 3, 2).astype(np.uint8)
    assert compare("front", grey, {"front": grey}).swapped_gain is None


def test_the_gain_of_an_exchange_runs_from_minus_two_to_two():
    cells = grid_of(table())
    assert swapped_gain(cells, cells) == pytest.approx(-2.0)
    assert swapped_gain(cells[..., ::-1], cells) == pytest.approx(2.0)


def test_a_look_counts_what_is_there():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 10:] = (255, 255, 255)
    found = look_of(image)
    assert (found.width, found.height, found.mean) == (20, 10, (127.5, 127.5, 127.5))
    assert (found.black, found.white) == (0.5, 0.5)
    # of 8 x 18 inner pixels two columns stand at the edge: Laplacian 255 there
    assert found.sharpness == pytest.approx(255 * (2 / 18) ** 0.5)
    assert look_of(np.zeros((2, 2, 3), np.uint8)).sharpness == 0.0


@pytest.mark.parametrize("shape", [(GRID, GRID), (48, 96), (100, 37), (8, 8), (480, 640)])
def test_a_picture_of_any_size_has_the_same_cells(shape):
    ramp = np.broadcast_to(np.linspace(0, 255, shape[1]), shape)[..., None].repeat(3, 2).astype(np.uint8)
    cells = grid_of(ramp)
    assert cells.shape == (GRID, GRID, 3)
    assert correlation(cells, np.broadcast_to(np.arange(GRID)[:, None], (GRID, GRID, 3))) > 0.98


def test_a_flat_picture_correlates_with_nothing():
    assert correlation(np.ones((2, 2)), np.arange(4.0).reshape(2, 2)) == 0.0
