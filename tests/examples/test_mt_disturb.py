"""Each disturbance changes what it says and nothing else, the same way for the same episode, more at a higher level."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevla.sim.lockstep import Episode
from edgevla.sim.metaworld import MetaworldPlant
from edgevla.sim.view import CORNER, TABLE
from examples.metaworld.mt.disturb import (
    LONGEST,
    PLANTS,
    POLITE,
    SCENES,
    THINGS,
    UNKNOWN,
    WORDS,
    Delayed,
    Disturbed,
    DroppedFrames,
    NoisyPicture,
    NoisyState,
    dice_of,
    said,
)
from examples.metaworld.mt.robustness import CURVES
from examples.metaworld.mt.tasks import tasks, vocabulary
from export.structures.recipe import read_recipe

EPISODE = Episode("door-open-v3", 9_000_003, "get the door open")
STILL = {"camera moved": 4.0, "camera turned": 4.0, "light": 0.5, "background": 0.5}  # kind -> a level


class Numbered:
    """Picture, state and set-points that say when they were asked for."""

    def __init__(self) -> None:
        self.setpoint0 = np.array([0, 0, 0, -1], np.float32)
        self.pictures, self.given = 0, list[float]()

    def render(self) -> Any:
        self.pictures += 1
        return np.full((8, 8, 3), self.pictures, np.uint8)

    def position(self) -> Any:
        return np.array([0.1, 0.6, 0.2, 0.7], np.float32)

    def step(self, setpoint: Any) -> None:
        self.given.append(float(setpoint[0]))


class Bright(Numbered):
    """Far from black, where noise would be cut off."""

    def render(self) -> Any:
        return np.full((8, 8, 3), 128, np.uint8)


def dice() -> np.random.Generator:
    return np.random.default_rng(0)


def drawn(kind: str = "", level: float = 0.0, episode: Episode = EPISODE, view: Any = TABLE) -> Any:
    """The first picture of the episode, disturbed."""
    plant = MetaworldPlant(episode.task, episode.seed, view=view)
    if kind:
        SCENES[kind](plant, level, dice_of(kind, episode))
    picture = plant.render()
    plant.close()
    return picture.astype(int)


# --- the scene ---


@pytest.fixture(scope="module")
def untouched() -> Any:
    return drawn()


@pytest.mark.parametrize("kind", SCENES)
def test_a_changed_scene_is_seen_in_the_first_picture_and_the_same_way_again(untouched, kind):
    picture = drawn(kind, STILL[kind])
    assert abs(picture - untouched).mean() > 2
    assert (drawn(kind, STILL[kind]) == picture).all()


@pytest.mark.parametrize("kind", SCENES)
def test_the_level_that_changes_nothing_changes_nothing(untouched, kind):
    assert abs(drawn(kind, 1.0 if kind == "light" else 0.0) - untouched).max() <= 1


def test_the_camera_moves_the_same_way_by_any_distance_and_another_way_in_another_scene():
    def moved(level: float, episode: Episode = EPISODE) -> Any:
        plant = MetaworldPlant(episode.task, episode.seed, view=TABLE)
        before = plant._env.model.camera("corner2").pos.copy()
        SCENES["camera moved"](plant, level, dice_of("camera moved", episode))
        return plant._env.model.camera("corner2").pos - before

    near, far = moved(2.0), moved(8.0)
    assert np.linalg.norm(near) == pytest.approx(0.02)
    np.testing.assert_allclose(far, 4 * near, atol=1e-9)
    other = moved(2.0, Episode(EPISODE.task, EPISODE.seed + 1, EPISODE.instruction))
    assert np.linalg.norm(other - near) > 1e-3


def test_the_camera_turns_by_so_many_degrees():
    plant = MetaworldPlant(EPISODE.task, EPISODE.seed, view=TABLE)
    camera = plant._env.model.camera("corner2")
    before = camera.quat / np.linalg.norm(camera.quat)
    SCENES["camera turned"](plant, 5.0, dice())
    after = camera.quat / np.linalg.norm(camera.quat)
    assert np.rad2deg(2 * np.arccos(abs(before @ after))) == pytest.approx(5.0, abs=1e-6)


def test_light_scales_brightness(untouched):
    assert drawn("light", 0.5).mean() < 0.8 * untouched.mean()
    assert drawn("light", 1.5).mean() > 1.05 * untouched.mean()


def test_the_background_is_replaced_in_scenes_that_lack_a_wall_too():
    episode = Episode("sweep-into-v3", 9_000_001, "sweep")
    assert abs(drawn("background", 1.0, episode) - drawn("", 0, episode)).mean() > 10


def test_the_other_camera_is_moved_as_well():
    assert abs(drawn("camera moved", 4.0, view=CORNER) - drawn(view=CORNER)).mean() > 2


def test_a_scene_that_is_none_of_meta_world_is_refused():
    with pytest.raises(TypeError, match="expected a MetaworldPlant"):
        SCENES["light"](Numbered(), 0.5, dice())


# --- around the plant ---


def test_state_noise_is_on_the_hand_alone_and_in_millimetres():
    plant = NoisyState(Numbered(), 5.0, dice())
    off = np.stack([plant.position() - Numbered().position() for _ in range(2000)])
    np.testing.assert_allclose(off[:, :3].std(0), 0.005, rtol=0.1)
    assert (off[:, 3] == 0).all()


def test_pixel_noise_has_its_deviation_and_stays_a_picture():
    picture = NoisyPicture(Bright(), 8.0, dice()).render()
    assert (picture.dtype, picture.shape) == (np.uint8, (8, 8, 3))
    assert picture.astype(float).std() == pytest.approx(8.0, rel=0.25)


def test_a_dropped_frame_is_the_one_before_once_more():
    plant = DroppedFrames(Numbered(), 0.5, dice())
    seen = [int(plant.render()[0, 0, 0]) for _ in range(200)]
    assert seen[0] == 1
    assert 70 < sum(a == b for a, b in pairwise(seen)) < 130
    assert all(b in (a, a + 1) for a, b in pairwise(seen))
    none = DroppedFrames(Numbered(), 0.0, dice())
    assert [int(none.render()[0, 0, 0]) for _ in range(3)] == [1, 2, 3]


def test_set_points_arrive_so_many_ticks_later():
    plant = Numbered()
    late = Delayed(plant, 3, dice())
    for tick in range(1, 7):
        late.step(np.array([tick, 0, 0, 0], np.float32))
    assert plant.given == [0, 0, 0, 1, 2, 3]
    same = Numbered()
    Delayed(same, 0, dice()).step(np.array([5, 0, 0, 0], np.float32))
    assert same.given == [5]


def test_whatever_is_not_disturbed_passes_through():
    plant = Numbered()
    wrapped = NoisyState(plant, 5.0, dice())
    assert (wrapped.setpoint0 == plant.setpoint0).all()
    assert int(wrapped.render()[0, 0, 0]) == 1


# --- words ---


@pytest.mark.parametrize("which", ["mt10", "mt50"])
def test_a_policy_hears_as_many_words_as_are_said_at_most(which):
    assert read_recipe(Path(f"examples/metaworld/mt/{which}.toml")).max_tokens == LONGEST


def test_added_words_are_known_ones_around_the_sentence_and_never_too_many():
    known = set(vocabulary("mt10"))
    assert set(POLITE) <= known
    for task in tasks("mt10"):
        for sentence in task.held_out:
            told = said("words added", 4, Episode(task.name, 9_000_000, sentence)).instruction
            assert sentence in told
            assert set(told.split()) <= known
            assert len(told.split()) == min(LONGEST, len(sentence.split()) + 4)


@pytest.mark.parametrize("which", ["mt10", "mt50"])
def test_another_task_s_thing_is_named_in_known_words_behind_what_is_to_be_done(which):
    known = set(vocabulary(which))
    for task in tasks(which):
        for sentence in task.held_out:
            told = said("another thing named", 1, Episode(task.name, 9_000_000, sentence)).instruction.split()
            asked = [word for word in sentence.split() if word not in POLITE]
            assert told[:-4] == asked
            assert told[-4:-1] == ["across", "from", "the"]
            assert told[-1] in set(THINGS) - set(asked)
            assert set(told) <= known
            assert len(told) <= LONGEST
    assert said("another thing named", 0, EPISODE) == EPISODE


def test_an_unknown_word_is_in_no_sentence_of_any_task():
    assert not set(UNKNOWN) & set(vocabulary("mt50"))
    told = said("unknown words", 1, EPISODE)
    assert told.instruction.split(" ", 1)[1] == EPISODE.instruction
    assert (told.task, told.seed) == (EPISODE.task, EPISODE.seed)
    assert said("unknown words", 0, EPISODE) == EPISODE


# --- by name ---


def test_every_curve_has_a_disturbance_and_only_scenes_are_loaded_anew():
    kinds = {*PLANTS, *SCENES, *WORDS}
    assert {curve.kind for curve in CURVES} == kinds
    assert {kind for kind in kinds if Disturbed(kind, 1.0).changes_scene} == set(SCENES)
    assert len({Disturbed(kind, 1.0).name for kind in kinds}) == len(kinds)


def test_a_value_that_is_handed_to_another_process_comes_back_the_same():
    import pickle

    assert pickle.loads(pickle.dumps(Disturbed("light", 0.4))) == Disturbed("light", 0.4)
