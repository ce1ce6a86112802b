"""The simulator as a plant: what an arm and a camera would say, the same for the same seed."""

import numpy as np
import pytest

from edgevla.errors import BadInput
from edgevla.sim.metaworld import PERIOD_S, SETPOINT_HIGH, SETPOINT_LOW, TASKS, MetaworldPlant, require_task
from edgevla.sim.names import ALL_TASKS
from edgevla.sim.view import CORNER, TABLE, VIEWS, view_of


@pytest.fixture(scope="module")
def drawer():
    """A loaded environment that the tests hand on; loading takes a while, resetting does not."""
    plant = MetaworldPlant("drawer-open-v3", 0)
    yield plant
    plant.close()


def scene(drawer, seed, half_way=False):
    return MetaworldPlant("drawer-open-v3", seed, half_way, reuse=drawer)


def test_the_same_seed_is_the_same_scene_and_the_same_motion(drawer):
    seen = []
    for _ in range(2):
        plant = scene(drawer, 7)
        frame = plant.render()
        for _ in range(5):
            plant.step(plant.setpoint0 + np.array([0.02, 0.01, -0.01, 0.0], np.float32))
        seen.append((frame, plant.render(), plant.scripted_observation()))
    assert all((a == b).all() for a, b in zip(*seen, strict=True))


def test_a_reused_environment_plays_as_a_freshly_loaded_one(drawer):
    scene(drawer, 3).step(SETPOINT_HIGH)
    reused = scene(drawer, 11)
    first = reused.scripted_observation()
    picture = reused.render()
    fresh = MetaworldPlant("drawer-open-v3", 11)
    assert (fresh.scripted_observation() == first).all()
    assert (fresh.render() == picture).all()
    fresh.close()


def test_another_seed_moves_the_object_and_not_what_the_robot_knows_of_itself(drawer):
    one = scene(drawer, 1)
    full_one, position_one = one.scripted_observation(), one.position()
    two = scene(drawer, 2)
    assert np.abs(two.scripted_observation()[4:] - full_one[4:]).max() > 0.01
    assert (two.position() == position_one).all()


def test_the_position_is_hand_and_gripper_and_nothing_of_the_object(drawer):
    plant = scene(drawer, 4)
    position = plant.position()
    assert (position.shape, position.dtype) == ((4,), np.float32)
    np.testing.assert_allclose(position, plant.scripted_observation()[:4], atol=1e-6)
    np.testing.assert_allclose(position[:3], plant.setpoint0[:3], atol=0.02)


def test_a_step_is_one_control_period(drawer):
    plant = scene(drawer, 4)
    before = plant._env.data.time
    plant.step(plant.setpoint0)
    assert plant._env.data.time - before == pytest.approx(PERIOD_S, abs=1e-9)
    assert plant.ticks == 1


@pytest.mark.parametrize(("far", "limit"), [(9.0, SETPOINT_HIGH), (-9.0, SETPOINT_LOW)])
def test_a_set_point_past_the_workspace_is_its_limit(drawer, far, limit):
    paths = []
    for setpoint in (np.full(4, far, np.float32), limit):
        plant = scene(drawer, 5)
        paths.append([plant.step(setpoint) for _ in range(12)])
    assert np.array_equal(paths[0], paths[1])


def test_the_hand_follows_its_set_point_to_the_place(drawer):
    plant = scene(drawer, 5)
    goal = plant.setpoint0 + np.array([0.05, -0.05, 0.02, 0.0], np.float32)
    for _ in range(80):
        position = plant.step(goal)
    np.testing.assert_allclose(position[:3], goal[:3], atol=0.01)


def test_the_gripper_closes_on_effort(drawer):
    plant = scene(drawer, 5)
    start = plant.position()[3]
    closed = plant.setpoint0.copy()
    closed[3] = 1.0
    for _ in range(30):
        position = plant.step(closed)
    assert position[3] < start - 0.2


def test_half_way_scenes_start_half_open_and_count_from_there(drawer):
    mechanism = TASKS["drawer-open-v3"].mechanism
    starts = []
    for seed in range(4):
        plant = scene(drawer, seed, half_way=True)
        assert plant.opened_by() == 0
        starts.append(plant.joint_position)
    assert all(abs(start - mechanism.half_way) <= 0.02 for start in starts)
    assert len(set(starts)) == 4
    assert abs(scene(drawer, 0).joint_position) < 0.01  # the task's own scene starts closed


@pytest.mark.parametrize("task", ["button-press-v3", "door-open-v3"])
def test_a_task_without_a_second_instruction_has_no_half_way_scene(task):
    with pytest.raises(BadInput, match="no half-way scene"):
        MetaworldPlant(task, 0, half_way=True)


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="window-open-v3") as caught:
        MetaworldPlant("coffee-drink-v3", 0)
    assert "'coffee-drink-v3'" in str(caught.value)


def test_all_fifty_tasks_are_known_in_the_order_of_metaworld():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert tuple(ALL_V3_ENVIRONMENTS) == ALL_TASKS
    assert len(TASKS) == 6
    assert all(require_task(name).name == name for name in ALL_TASKS)
    assert all(require_task(name) is task for name, task in TASKS.items())


def test_a_frame_is_rgb_bytes_with_the_wall_above_and_the_wooden_table_below(drawer):
    frame = scene(drawer, 6).render()
    assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((96, 96, 3), np.uint8, True)
    red_over_blue = frame[..., 0].astype(int) - frame[..., 2]
    above, below = red_over_blue[:10].mean(), red_over_blue[-20:].mean()
    assert above < 20 < 28 < below  # a grey wall, a brown table


def test_a_frame_shows_that_the_hand_moved(drawer):
    plant = scene(drawer, 6)
    before = plant.render()
    for _ in range(40):
        plant.step(plant.setpoint0 + np.array([0.1, 0.0, 0.1, 0.0], np.float32))
    changed = (np.abs(plant.render().astype(int) - before) > 30).any(-1)
    assert changed.mean() > 0.01


@pytest.mark.parametrize("task", ["window-close-v3", "drawer-open-v3"])
def test_the_first_frame_shows_the_scene_as_it_is(task):
    """A reset alone leaves the window where it was, 20 cm off, until the first step."""
    plant = MetaworldPlant(task, 0)
    plant = MetaworldPlant(task, 5, reuse=plant)
    first, observed = plant.render().astype(int), plant.scripted_observation()
    plant.step(plant.setpoint0)
    moved = (np.abs(plant.render().astype(int) - first).max(-1) > 20).sum()
    assert moved < 100  # px: the hand settles
    np.testing.assert_allclose(plant.scripted_observation()[4:7], observed[4:7], atol=2e-3)
    plant.close()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_loads_and_does_not_start_solved(task):
    plant = MetaworldPlant(task, 0)
    plant.step(plant.setpoint0)
    assert not plant.success
    plant.close()


def test_only_the_gripper_measures_an_effort_and_it_turns_with_its_direction(drawer):
    drawer.step(drawer.setpoint0)
    opening = drawer.effort()
    drawer.step(np.append(drawer.setpoint0[:3], 1.0))
    assert np.isnan(opening[:3]).all()
    assert opening[3] < -1.0 < 1.0 < drawer.effort()[3]  # N; > 0 closes


CORNER_LOOKS = [
    [98.6, 114.1, 124.6, 125.0],
    [101.9, 107.0, 123.5, 159.3],
    [85.5, 94.2, 99.1, 103.9],
    [51.1, 90.9, 94.0, 90.7],
]  # fmt: skip


def test_the_corner_camera_sees_what_it_saw_when_the_reference_policy_was_trained(drawer):
    """Mean brightness of 4 x 4 blocks of the scene of seed 7; a hash would also tell one Mesa from another."""
    looks = scene(drawer, 7).render().mean(2).reshape(4, 24, 4, 24).mean((1, 3))
    np.testing.assert_allclose(looks, CORNER_LOOKS, atol=1.0)


@pytest.fixture(scope="module")
def pushing():
    """A scene with a puck and a green goal, seen as the published data sets see it."""
    plant = MetaworldPlant("push-v3", 3, view=TABLE)
    yield plant
    plant.close()


def pixel_of(place_m, view=TABLE):
    """Row and column where a pinhole camera shows the point."""
    back = np.subtract(view.position_m, view.target_m)
    back /= np.linalg.norm(back)
    right = np.cross((0, 0, 1), back)
    right /= np.linalg.norm(right)
    away = np.subtract(place_m, view.position_m)
    focal_px = view.size_px / 2 / np.tan(np.radians(view.fovy_deg) / 2)
    depth = -away @ back
    middle = (view.size_px - 1) / 2
    return middle - focal_px * (away @ np.cross(back, right)) / depth, middle + focal_px * (away @ right) / depth


def green_at(frame):
    red, green, blue = np.moveaxis(frame.astype(int), -1, 0)
    return np.argwhere((green > 100) & (green > 2 * red) & (green > 2 * blue)).mean(0)


def test_the_table_camera_draws_the_goal_where_it_is_after_a_reset_and_after_every_step(pushing):
    for seed in (3, 4):
        plant = MetaworldPlant("push-v3", seed, reuse=pushing, view=TABLE)
        goal = plant.places()[6:]
        for _ in range(3):
            frame = plant.render()
            assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((128, 128, 3), np.uint8, True)
            np.testing.assert_allclose(green_at(frame), pixel_of(goal), atol=1.0)
            plant.step(plant.setpoint0)


def test_a_goal_that_a_step_leaves_elsewhere_in_the_scene_is_drawn_where_it_is(pushing):
    plant = MetaworldPlant("push-v3", 5, reuse=pushing, view=TABLE)
    plant._env._target_pos = np.array([-0.2, 0.6, 0.1])
    plant.step(plant.setpoint0)
    np.testing.assert_allclose(green_at(plant.render()), pixel_of((-0.2, 0.6, 0.1)), atol=1.0)


def test_places_are_those_of_object_and_goal_and_nan_for_what_is_not_there(pushing):
    plant = MetaworldPlant("push-v3", 6, reuse=pushing, view=TABLE)
    places = plant.places()
    assert (places.shape, places.dtype) == ((9,), np.float32)
    np.testing.assert_allclose(places[:3], plant.scripted_observation()[4:7], atol=1e-6)
    np.testing.assert_allclose(places[6:], plant.scripted_observation()[-3:], atol=1e-6)
    assert np.isnan(places[3:6]).all()
    stick = MetaworldPlant("stick-push-v3", 0)
    assert np.isfinite(stick.places()).all()


def test_a_view_goes_by_the_name_of_the_camera_and_a_robot_s_own_camera_is_the_corner():
    assert VIEWS == {"corner": CORNER, "table": TABLE}
    assert (view_of("table"), view_of("corner"), view_of("wrist")) == (TABLE, CORNER, CORNER)


@pytest.mark.parametrize(("task", "view"), [("push-v3", CORNER), ("reach-v3", TABLE)])
def test_a_plant_of_another_task_or_view_is_not_reused(pushing, task, view):
    with pytest.raises(ValueError, match="push-v3 seen from table"):
        MetaworldPlant(task, 0, reuse=pushing, view=view)
