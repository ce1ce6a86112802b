"""Recording demonstrations for real, one short group of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgevla.sim.metaworld import ACTION_SCALE_M, SETPOINT_HIGH, SETPOINT_LOW, TASKS, MetaworldPlant
from examples.metaworld.demos import FRAME_EVERY, Disturbance, Group, content_of, plan, record_group
from examples.metaworld.folder import claim

ROOT = Path(__file__).parents[2]
GROUP = Group("drawer-close-v3", True, 2, 1_200_000)


@pytest.fixture(scope="module")
def shard_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    record_group(GROUP, folder)
    return folder / f"{GROUP.name}.npz"


@pytest.fixture(scope="module")
def shard(shard_path):
    with np.load(shard_path) as archive:
        return dict(archive)


def test_the_same_seed_records_the_same_arrays(shard, tmp_path):
    record_group(GROUP, tmp_path)
    with np.load(tmp_path / f"{GROUP.name}.npz") as again:
        assert set(again) == set(shard)
        assert all((again[key] == shard[key]).all() for key in shard)


def test_nothing_but_the_whole_shard_is_left_in_the_folder(shard_path):
    assert [path.name for path in shard_path.parent.iterdir()] == ["drawer-close-v3-half-way.npz"]


def test_every_tick_has_a_state_two_actions_and_a_frame(shard):
    ticks = len(shard["state"])
    assert shard["executed"].shape == shard["expert"].shape == (ticks, 4)
    assert shard["episode"].tolist() == sorted(shard["episode"].tolist())
    assert set(shard["episode"]) == {0, 1}
    assert shard["image"].dtype == np.uint8
    for episode in (0, 1):
        mine = np.flatnonzero(shard["episode"] == episode)
        frames = shard["frame"][mine]
        assert (frames - frames[0] == np.arange(len(mine)) // FRAME_EVERY).all()
    assert shard["frame"][-1] == len(shard["image"]) - 1


def test_actions_are_normalised_and_the_label_is_the_undisturbed_wish(shard):
    for key in ("executed", "expert"):
        assert np.abs(shard[key]).max() <= 1
    assert (shard["executed"][:, 3] == shard["expert"][:, 3]).all()  # the gripper is never disturbed


def test_replaying_the_executed_actions_leads_through_the_recorded_states(shard):
    mine = np.flatnonzero(shard["episode"] == 0)
    plant = MetaworldPlant("drawer-open-v3", GROUP.seed, half_way=True)
    setpoint = plant.setpoint0.copy()
    assert (plant.render() == shard["image"][shard["frame"][mine[0]]]).all()
    for tick in mine:
        np.testing.assert_allclose(plant.position(), shard["state"][tick], atol=1e-6)
        setpoint[:3] += ACTION_SCALE_M * shard["executed"][tick][:3]
        setpoint[3] = shard["executed"][tick][3]
        setpoint = np.clip(setpoint, SETPOINT_LOW, SETPOINT_HIGH)
        plant.step(setpoint)
    assert plant.opened_by() < -0.05  # it was closed
    plant.close()


def test_the_disturbance_is_there_in_most_episodes_and_the_same_for_the_same_seed():
    def size(seed):
        noise = Disturbance(np.random.default_rng(seed))
        return float(np.std([noise.next() for _ in range(100)]))

    sizes = [size(seed) for seed in range(60)]
    assert sizes == [size(seed) for seed in range(60)]
    assert 0.6 < np.mean(np.array(sizes) > 0.05) < 0.98


def test_the_plan_has_a_shard_for_every_task_and_every_half_way_instruction():
    groups = plan(4, 2, seed=0)
    assert [g.task for g in groups if not g.half_way] == list(TASKS)
    assert [g.task for g in groups if g.half_way] == [task for task, spec in TASKS.items() if spec.mechanism]
    assert len({g.name for g in groups}) == len(groups) == 10
    assert all(not g.half_way for g in plan(4, 0, seed=0))


def test_a_recording_that_was_stopped_makes_only_what_is_missing(shard_path, tmp_path):
    """All shards but one are there already: that one is made, the others keep their bytes, dataset.json comes last."""
    claim(tmp_path, content_of(plan(1, 1, seed=0), 0, FRAME_EVERY))
    missing = "button-press-v3.npz"
    for group in plan(1, 1, seed=0):
        if group.name + ".npz" != missing:
            os.link(shard_path, tmp_path / f"{group.name}.npz")
    half_written = tmp_path / ".button-press-v3.part.npz"
    half_written.write_bytes(b"half of it")
    command = [sys.executable, "-m", "examples.metaworld.demos", "-o", tmp_path]
    done = subprocess.run(
        [*command, "--episodes", "1", "--half-way", "1", "--workers", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ticks") == 1
    assert "button-press-v3" in done.stdout
    meta = json.loads((tmp_path / "dataset.json").read_text())
    assert all((tmp_path / shard["file"]).exists() for shard in meta["shards"])
    with np.load(tmp_path / missing) as archive:
        assert set(archive["episode"]) == {0}
    assert not half_written.exists()
    assert (tmp_path / "drawer-open-v3.npz").stat().st_ino == shard_path.stat().st_ino
