"""Flight records become a dataset that is read back number by number, and that a distillation takes."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edgevla.control.exchange import Status
from edgevla.errors import BadInput, Usage
from edgevla.flight.reader import read_record
from export.data.flights import OBSERVATION, TICK, harvest, stretches_of
from export.data.load import open_dataset
from export.distill.feed import teacher_feed
from export.distill.source import RobotSource
from export.harvest_cli import harvest as command
from export.teachers.ours import FlowPolicy
from tests.edgevla.flight.flown import SCHEDULE, WORDS, Flight, Happens, image, write
from tests.tiny_bundle import write_tiny_bundle

R, D = SCHEDULE.replan, SCHEDULE.delay


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle").path


def flown(tiny, folder, happens=None, ticks=120):
    folder.mkdir(parents=True, exist_ok=True)
    flight = Flight(tiny, ticks, happens)
    return flight, write(flight, folder / "flight.mcap")


def harvested(tmp_path, *paths, rows_at=TICK, video=False):
    records = [read_record(path) for path in paths]
    done = harvest(paths, records, tmp_path / "field", rows_at, video)
    return done, open_dataset(tmp_path / "field", tmp_path / "work", progress=False)


def test_every_tick_that_the_policy_drove_is_a_row(tiny, tmp_path):
    flight, path = flown(tiny, tmp_path / "run")
    done, data = harvested(tmp_path, path)
    ticks = np.arange(D, 120)  # from the first release on
    assert (done.rows, done.episodes, done.fps, len(data)) == (len(ticks), 1, 80, len(ticks))
    assert data.period_s == pytest.approx(0.0125)
    assert data.state_names == ("hand_x", "hand_y", "hand_z", "gripper")
    assert data.action_names == ("x", "y", "z", "gripper")
    assert data.instructions == [WORDS[0]]
    np.testing.assert_array_equal(data.state, flight.ticks["state"][ticks])
    setpoint = flight.ticks["setpoint"].astype(np.float64)
    np.testing.assert_array_equal(data.action[:, :3], np.diff(setpoint, axis=0)[ticks - 1, :3].astype(np.float32))
    np.testing.assert_array_equal(data.action[:, 3], flight.ticks["setpoint"][ticks, 3])
    pictures = data.image(range(len(data)), "corner")
    for tick, picture in zip(ticks, pictures, strict=True):
        assert (picture == image(tick // R * R)).all(), tick  # of the newest observation


def test_the_deltas_of_an_episode_add_up_to_the_way_it_went(tiny, tmp_path):
    flight, path = flown(tiny, tmp_path / "run")
    for rows_at in (TICK, OBSERVATION):
        (stretch,), _ = stretches_of(read_record(path), rows_at)
        last = int(stretch.ticks[-1]) + (0 if rows_at == TICK else R - 1)
        way = flight.ticks["setpoint"][last, :3].astype(np.float64) - flight.ticks["setpoint"][stretch.ticks[0] - 1, :3]
        np.testing.assert_allclose(stretch.action[:, :3].sum(axis=0), way, atol=1e-6)


def test_rows_at_observations_hold_one_moment_and_the_action_that_follows(tiny, tmp_path):
    flight, path = flown(tiny, tmp_path / "run")
    done, data = harvested(tmp_path, path, rows_at=OBSERVATION)
    ticks = np.arange(R, 120, R)[: (120 - R) // R]
    assert (done.rows, done.fps, done.replan_ticks) == (len(ticks), 10, R)
    pictures = data.image(range(len(data)), "corner")
    for tick, picture in zip(ticks, pictures, strict=True):
        assert (picture == image(tick)).all()
    setpoint = flight.ticks["setpoint"].astype(np.float64)
    expected = (setpoint[ticks + R - 1] - setpoint[ticks - 1])[:, :3].astype(np.float32)
    np.testing.assert_array_equal(data.action[:, :3], expected)
    np.testing.assert_array_equal(data.action[:, 3], flight.ticks["setpoint"][ticks + R - 1, 3])
    np.testing.assert_array_equal(data.state, np.stack([flight.observations[t // R].state for t in ticks]))


def test_a_gap_is_an_episode_s_boundary(tiny, tmp_path):
    _, path = flown(tiny, tmp_path / "run", Happens(oversleep={50: 3}, unsent=range(70, 72)))
    done, data = harvested(tmp_path, path)
    bounds = [(int(data.start[i]), int(data.end[i])) for i in np.unique(data.start)]
    lengths = [end - start for start, end in bounds]
    # 2..49, then 50-52 slept; 53 follows no command, so 54..69; 70, 71 unsent; 72..119
    assert lengths == [48, 16, 48]
    assert done.episodes == 3


def test_an_instruction_has_episodes_of_its_own(tiny, tmp_path):
    _, path = flown(tiny, tmp_path / "run", Happens(instruct=60))
    _, data = harvested(tmp_path, path)
    assert data.instructions == [WORDS[0], WORDS[1]]
    assert [data.instruction(int(start)) for start in np.unique(data.start)] == [WORDS[0], WORDS[1]]
    assert int(np.unique(data.start)[1]) == 60 - D


def test_a_ladder_is_nothing_to_learn_from(tiny, tmp_path):
    flight, path = flown(tiny, tmp_path / "run", Happens(status=dict.fromkeys(range(40, 120), Status.NO_FRAME)))
    done, _ = harvested(tmp_path, path)
    assert done.rows == 40 - D  # up to the last observation that had a picture, and the r ticks it may be shown
    assert (flight.ticks["phase"] != 2).sum() > 50


def test_several_records_make_one_dataset_and_video_is_read_back(tiny, tmp_path):
    paths = [flown(tiny, tmp_path / name, Happens(stop=stop))[1] for name, stop in (("a", 40), ("b", 60))]
    done, data = harvested(tmp_path, *paths, video=True)
    assert done.episodes == len(np.unique(data.start)) == 2
    assert data.images([0]).shape == (1, 1, 96, 96, 3)


def test_a_distillation_takes_the_field_data(tiny, tmp_path, teacher):
    _, path = flown(tiny, tmp_path / "run")
    _, data = harvested(tmp_path, path)
    policy = FlowPolicy(teacher)
    source = RobotSource(data, policy.spec)
    rows = source.draw(4, seed=0, horizon=policy.spec.horizon, d_max=policy.spec.d_max)
    inputs = teacher_feed(policy, source.sentences, source.present)(
        source.pictures(rows["seen"]), rows["state"], rows["sentence"]
    )
    spec = policy.spec
    blank = torch.zeros(4, spec.horizon, len(spec.actions))
    with torch.inference_mode():
        chunk = policy(inputs, torch.zeros(4, spec.horizon, spec.noise), blank, blank[..., :1])
    assert chunk.shape == blank.shape
    assert torch.isfinite(chunk).all()
    assert rows["actions"].shape == (4, spec.horizon, 4)


def test_records_of_another_robot_are_refused_and_nothing_is_left(tiny, tmp_path):
    one, other = (flown(tiny, tmp_path / name)[1] for name in "ab")
    records = [read_record(one), read_record(other)]
    records[1].meta["arm"]["name"] = "another"
    with pytest.raises(BadInput, match="does not go with"):
        harvest([one, other], records, tmp_path / "field", TICK, False)
    assert not (tmp_path / "field").exists()


def test_a_record_in_which_nothing_moved_is_refused(tiny, tmp_path):
    _, path = flown(tiny, tmp_path / "run", Happens(silent=range(200)))
    with pytest.raises(BadInput, match="nothing to harvest"):
        harvested(tmp_path, path)


def test_the_command_says_which_ticks_were_written(tiny, tmp_path):
    import typer

    _, path = flown(tiny, tmp_path / "run")
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(path), "-o", str(tmp_path / "field"), "--lossless", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"] == 118
    result = CliRunner().invoke(app, [str(path), "-o", str(tmp_path / "again"), "--lossless", "--rows", "observation"])
    assert "14 rows in 1 episodes, from 120 recorded ticks" in result.stdout
    assert "one per observation; an action spans the 8 ticks that follow it" in result.stdout
    result = CliRunner().invoke(app, [str(path), "-o", str(tmp_path / "x"), "--rows", "never"])
    assert isinstance(result.exception, Usage)
