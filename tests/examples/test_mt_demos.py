"""Recording MT10 for real, one short shard, and reading it as training does."""

import json
from itertools import pairwise

import numpy as np
import pytest

from edgevla.errors import BadInput
from edgevla.sim.metaworld import MetaworldPlant
from edgevla.sim.view import TABLE
from examples.metaworld import demos as reference
from examples.metaworld.demos import Group, Recording, commanded, record_group
from examples.metaworld.mt import demos, play
from examples.metaworld.mt.demos import RECORDING, plan, record
from examples.metaworld.mt.pushes import LENGTH, Pushes
from examples.metaworld.mt.tasks import tasks
from export.data.ours import OurData
from export.data.stills import Stills

FIRST = Group("reach-v3", False, 2, 430_000)


@pytest.fixture(scope="module")
def reaching(tmp_path_factory):
    """A shard of two episodes."""
    folder = tmp_path_factory.mktemp("shards")
    record_group(FIRST, folder, RECORDING)
    with np.load(folder / "reach-v3.npz") as archive:
        return dict(archive)


def test_a_picture_of_the_table_every_fourth_tick_and_the_places_at_every_tick(reaching):
    ticks = len(reaching["state"])
    assert reaching["image"].shape[1:] == (128, 128, 3)
    assert (reaching["places"].shape, reaching["places"].dtype) == ((ticks, 9), np.float32)
    for episode in (0, 1):
        mine = np.flatnonzero(reaching["episode"] == episode)
        frames = reaching["frame"][mine]
        assert (frames - frames[0] == np.arange(len(mine)) // 4).all()
        goals = reaching["places"][mine, 6:]
        assert (goals == goals[0]).all()
        away_m = np.linalg.norm(reaching["state"][mine, :3] - goals, axis=1)
        assert away_m.min() < 0.10 < away_m[0]  # the fingertips, 5 cm below, came to the goal that is written down


def test_replaying_the_executed_actions_leads_through_the_recorded_pictures_and_places(reaching):
    plant = MetaworldPlant("reach-v3", FIRST.seed, view=TABLE)
    setpoint = plant.setpoint0.copy()
    for tick in range(9):
        if tick % 4 == 0:
            assert (plant.render() == reaching["image"][reaching["frame"][tick]]).all()
        np.testing.assert_array_equal(plant.places(), reaching["places"][tick])
        setpoint = commanded(setpoint, reaching["executed"][tick])
        plant.step(setpoint)
    plant.close()


def test_the_plan_has_fifty_episodes_a_task_some_of_drawers_and_windows_half_way():
    for which, count in (("mt10", 10), ("mt50", 50)):
        groups = plan(which, 50, 15, seed=0)
        assert {g.task for g in groups} == {task.name for task in tasks(which)}
        assert sum(g.episodes for g in groups) == 50 * count
        halves = {g.task: g.episodes for g in groups if g.half_way}
        assert halves == dict.fromkeys(["drawer-open-v3", "drawer-close-v3", "window-open-v3", "window-close-v3"], 15)
        assert len({g.name for g in groups}) == len(groups)
    assert set(plan("mt10", 50, 15, 0)) <= set(plan("mt50", 50, 15, 0))


def test_between_pushes_the_expert_is_left_alone() -> None:
    wanted = np.array([0.5, 0.0, -0.2, -1.0])
    taken = []
    for seed in range(40):
        pushes = Pushes(np.random.default_rng(seed))
        taken.append([pushes.disturbed(wanted) for _ in range(150)])
    actions = np.array(taken)
    pushed = (actions != wanted).any(2)
    assert 0.1 < pushed.mean() < 0.35
    assert np.abs(actions).max() <= 1.0
    assert (actions[..., 3] != -1.0).any()  # now and then the gripper too
    assert (actions[..., 3] == -1.0).mean() > 0.85
    lengths = [len(run) for episode in pushed for run in "".join("x" if one else " " for one in episode).split()]
    assert min(lengths) >= 1
    assert np.median(lengths) <= LENGTH[1]


def test_no_scene_is_used_twice_or_for_evaluation():
    """A scene is its environment and its seed; evaluation begins at 9,000,000."""
    groups, shards = plan("mt50", 50, 15, 0), play.plan("mt50", play.MOST_SCENES, 6, 1_000_000)
    begun = [(g.task.replace("-close-", "-open-") if g.half_way else g.task, g.seed) for g in groups]
    begun += [(s.task, s.seed) for s in shards]
    for task in {task for task, _ in begun}:
        seeds = sorted(seed for name, seed in begun if name == task)
        assert all(later - earlier >= demos.SEEDS for earlier, later in pairwise(seeds))
    assert max(seed for _, seed in begun) + demos.SEEDS < 2_000_000


def test_an_expert_that_never_finishes_ends_the_recording_with_its_name(tmp_path):
    with pytest.raises(BadInput, match="scripted expert of reach-v3"):
        record_group(Group("reach-v3", False, 1, 0), tmp_path, Recording(TABLE, max_ticks=3))
    assert not list(tmp_path.iterdir())


def test_a_recording_and_stills_are_read_back_with_their_camera_and_their_places(tmp_path, monkeypatch):
    """Reach only, in this process: pools and the other nine tasks are the same code."""
    one = [task for task in tasks("mt10") if task.name == "reach-v3"]
    for module in (demos, play):
        monkeypatch.setattr(module, "tasks", lambda which: one)
    in_turn = lambda jobs, workers, told: [print(told(job(*arguments))) for job, arguments in jobs]  # noqa: E731
    monkeypatch.setattr(reference, "work_through", in_turn)
    monkeypatch.setattr(play, "work_through", in_turn)
    record(tmp_path / "data", "mt10", 1, 0, seed=0, workers=1)
    data = OurData(tmp_path / "data")
    assert [(camera.name, camera.height, camera.width) for camera in data.cameras] == [("table", 128, 128)]
    assert data.frame_rate_hz == pytest.approx(20.0)
    assert data.places.shape == (len(data), 9)
    assert data.images([0]).shape == (1, 1, 128, 128, 3)
    play.take_all(tmp_path / "stills", "mt10", 2, 3, seed=1_000_000, workers=1)
    stills = Stills(tmp_path / "stills")
    assert (len(stills), stills.names) == (2 * 3 * play.MORE, ["reach-v3"])
    assert len(np.unique(stills.places[:, 6:], axis=0)) == len(stills)  # its goal floats: another in each picture
    assert ((stills.places[:, 6:] >= (-0.1, 0.8, 0.05)) & (stills.places[:, 6:] <= (0.1, 0.9, 0.3))).all()
    assert len(np.unique(stills.state[:3, :3], axis=0)) == 3
    before = (tmp_path / "stills" / "reach-v3.npz").stat().st_mtime_ns
    play.take_all(tmp_path / "stills", "mt10", 2, 3, seed=1_000_000, workers=1)
    assert (tmp_path / "stills" / "reach-v3.npz").stat().st_mtime_ns == before  # what is there is not taken again
    assert json.loads((tmp_path / "stills" / "dataset.json").read_text())["camera"]["name"] == "table"


def test_a_goal_that_does_not_float_stays_where_its_scene_has_it(tmp_path):
    play.take(play.Shard("drawer-open-v3", 2, 3, 1_000_000), tmp_path)
    with np.load(tmp_path / "drawer-open-v3.npz") as archive:
        goals = archive["places"][:, 6:].reshape(2, 3, 3)
    assert (goals == goals[:, :1]).all()
    assert (goals[0, 0] != goals[1, 0]).any()


def test_a_goal_moves_only_where_it_floats():
    plant = MetaworldPlant("drawer-open-v3", 0, view=TABLE)
    with pytest.raises(ValueError, match="drawer-open-v3"):
        plant.move_goal(np.random.default_rng(0))


def test_the_same_seed_takes_the_same_stills(tmp_path):
    taken = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        play.take(play.Shard("pick-place-v3", 1, 3, 1_300_000), tmp_path / name)
        taken.append((tmp_path / name / "pick-place-v3.npz").read_bytes())
    assert taken[0] == taken[1]
