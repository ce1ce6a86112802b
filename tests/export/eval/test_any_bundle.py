"""A bundle that is not the reference policy, on a LeRobotDataset of its robot: two cameras under other names, joints
with an offset, two observations, a flow, no prefix."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgevla.bundle import open_bundle
from edgevla.errors import BadInput
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.preprocess import fitted
from export.data.interface import Camera
from export.data.writer import Episode, Layout, LeRobotWriter
from export.eval.error import Meaning, measure
from export.eval.offline import NO_PREFIX
from export.eval.record import open_record
from export.eval.replay import RecordedPlant
from export.eval.selection import KEPT_OUT
from tests.export.eval.edgevla_eval import edgevla_eval
from tests.rich_bundle import HORIZON, KNOWN, STATS, answer, write_rich_bundle

FPS, TICKS, EPISODES, OFF = 30, 20, 11, 0.01
JOINTS = ("shoulder.pos", "elbow.pos")
SOURCES = {"front": "top", "wrist": "hand"}


def an_episode(number):
    rng = np.random.default_rng(number)
    return Episode(
        state=rng.uniform(-1, 1, (TICKS, 2)).astype(np.float32),
        action=rng.uniform(-1, 1, (TICKS, 2)).astype(np.float32),
        images={
            "top": rng.integers(0, 256, (TICKS, 16, 16, 3), dtype=np.uint8),
            "hand": rng.integers(0, 256, (TICKS, 16, 32, 3), dtype=np.uint8),
        },
        task="open" if number % 2 else "pick the cube",
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "joints"
    cameras = (Camera("top", 16, 16), Camera("hand", 16, 32))
    with LeRobotWriter(folder, Layout(FPS, JOINTS, JOINTS, cameras, video=False)) as writer:
        for number in range(EPISODES):
            writer.add(an_episode(number))
    return folder


def a_bundle(path, sources=SOURCES):
    timing = {"period_s": 1 / FPS, "horizon": HORIZON, "d_max": 0}
    return write_rich_bundle(path, None, OFF, timing=timing, recipe={"camera_sources": sources}).path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return a_bundle(tmp_path_factory.mktemp("bundles") / "joints.bundle")


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # decoded pictures and reports go to out/
    monkeypatch.setattr("export.eval.error.LEAST_FRAMES", 10)


def set_points(number, tick, wrist=True, off=0.0):
    """What the policy wants (H, 2), in NumPy from what was recorded."""
    episode, pictures, mask, state = an_episode(number), [], [], []
    for seen in (max(tick - 1, 0), tick):
        hand = fitted(episode.images["hand"][seen].astype(np.float32) / 127.5 - 1, 16, 16, "pad")
        top = episode.images["top"][seen].astype(np.float32) / 127.5 - 1
        pictures += [top, hand if wrist else np.full_like(top, -1)]
        mask += [1.0, float(wrist)]
        state += list((episode.state[seen] - STATS.state_offset) / STATS.state_scale)
    chunk = answer(np.stack(pictures), mask, state, KNOWN[episode.task], off)[1][:, :2]
    return np.clip(chunk * STATS.action_scale + STATS.action_offset, -3, 3)


def worst(others):
    """Largest error per joint over the frames of episodes 0 and 10."""
    errors = [np.abs(set_points(n, tick) - others(n, tick)).max(0) for n in (0, 10) for tick in range(TICKS - HORIZON)]
    return np.max(errors, axis=0)


def test_the_error_is_that_of_the_recorded_frames_in_the_units_of_the_joints(bundle, dataset, capsys):
    """A wrong camera, order, past, offset or row would give other numbers: these come from the recording by NumPy."""
    assert edgevla_eval(bundle, "--data", dataset) in (0, 1)  # the budget is not what is asked here
    told = json.loads(Path("out/eval.json").read_text())
    assert told["selection"] == {"said": "the first of every 10 episodes", "episodes": [0, 10], "note": KEPT_OUT}
    assert (told["rows"], told["prefix"], told["cameras"]) == ([0, HORIZON - 1], NO_PREFIX, SOURCES)
    assert told["frames"] == 2 * (TICKS - HORIZON)
    to_graphs = worst(lambda n, tick: set_points(n, tick, off=OFF))
    to_record = worst(lambda n, tick: an_episode(n).action[tick : tick + HORIZON])
    assert to_graphs.min() > 0
    for i, name in enumerate(JOINTS):
        assert told["bundle_vs_fp32"]["channels"][name]["maximum"] == pytest.approx(to_graphs[i], rel=1e-3)
        assert told["bundle_vs_record"]["channels"][name]["maximum"] == pytest.approx(to_record[i], rel=1e-4)
    shown = capsys.readouterr().out
    assert "without a prefix" in shown
    assert "never trains on them" in shown


def test_a_camera_that_the_robot_lacks_is_left_out(tmp_path, dataset):
    found = open_bundle(a_bundle(tmp_path / "blind.bundle", {"front": "top", "wrist": "none"}))
    record = open_record(dataset, found.manifest, tmp_path)
    assert record.images(3).keys() == {"front"}
    engine = PolicyEngine(found)
    engine.set_instruction("pick the cube")
    chunk = engine.infer(record.images(0), record.state[0], np.zeros((0, 2), np.float32))
    said = Meaning(found.manifest.channels)
    np.testing.assert_allclose(said.reach(said.values(chunk)), set_points(0, 0, wrist=False), atol=1e-5)


def test_a_frame_is_asked_about_as_if_nothing_but_its_own_past_had_been_seen(bundle, dataset, tmp_path):
    """The same frame in another order, and the first of an episode behind the last of another."""
    manifest = open_bundle(bundle).manifest
    record = open_record(dataset, manifest, tmp_path)
    engines = [PolicyEngine(open_bundle(bundle)) for _ in range(2)]
    ticks = [0, 11, 5, 6, 20, 21, 40, 7, 30, 31]
    forth, back = (measure(record, np.array(t), manifest, *engines, 0, HORIZON) for t in (ticks, ticks[::-1]))
    for one, other in ((forth.shipped, back.shipped), (forth.fp32, back.fp32)):
        assert [one.channels[joint].p50 for joint in JOINTS] == [other.channels[joint].p50 for joint in JOINTS]
        assert [one.channels[joint].maximum for joint in JOINTS] == [other.channels[joint].maximum for joint in JOINTS]


def test_a_prefix_is_normalised_with_the_offset(bundle):
    said = Meaning(open_bundle(bundle).manifest.channels)
    assert said.normalised(STATS.action_offset).tolist() == [0, 0]
    values = np.array([[0.7, -2.0], [0.1, 1.5]])
    np.testing.assert_allclose(said.values(said.normalised(values)), values, rtol=1e-6)


def test_a_replay_shows_all_cameras_of_the_tick(bundle, dataset, tmp_path):
    record = open_record(dataset, open_bundle(bundle).manifest, tmp_path)
    plant = RecordedPlant(record, 1, np.zeros(2))
    plant.step(np.zeros(2))
    seen = plant.render()
    assert (seen["front"] == an_episode(1).images["top"][1]).all()
    assert (seen["wrist"] == an_episode(1).images["hand"][1]).all()


def test_a_policy_without_a_prefix_cannot_be_replayed(bundle, dataset, capsys):
    assert edgevla_eval(bundle, "--data", dataset, "--replay") == 1
    assert "d_max 0" in capsys.readouterr().err


REFUSED = {
    "joints in another order": ({"channels": 1}, "action channels of the record"),
    "state in another order": ({"state": 1}, "state of the record"),
    "another rate": ({"timing": 0.05}, "period of the record"),
    "a camera it lacks": ({"sources": {"front": "side"}}, "cameras of the dataset"),
    "no camera where one is needed": ({"sources": {"front": "none", "wrist": "hand"}}, "cameras of the dataset"),
    "a camera that was there": ({"sources": {"front": "top", "wrist": "gone"}}, "gone, the bundle's wrist"),
    "pictures of another size": ({"sources": {"front": "hand", "wrist": "hand"}}, "camera hand of the dataset"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_record_of_another_robot_is_refused(bundle, dataset, tmp_path, what):
    changes, message = REFUSED[what]
    manifest = open_bundle(bundle).manifest
    if "sources" in changes:
        other = replace(manifest, recipe={"camera_sources": changes["sources"]})
    elif "timing" in changes:
        other = replace(manifest, timing=replace(manifest.timing, period_s=changes["timing"]))
    else:
        other = replace(manifest, **{key: getattr(manifest, key)[::-1] for key in changes})
    with pytest.raises(BadInput, match=message):
        open_record(dataset, other, tmp_path)
