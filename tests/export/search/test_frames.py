"""Frames of a dataset, and the command that searches a bundle."""

import json
import sys

import numpy as np
import pytest

from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput
from export.data.interface import Camera, held_out
from export.data.load import open_dataset
from export.data.writer import Episode, Layout, LeRobotWriter
from export.search.__main__ import main
from export.search.frames import bundle_frames, float_graphs
from tests.rich_bundle import write_rich_bundle
from tests.tiny_bundle import WORDS

TASKS = {"drawer-open-v3": "open the drawer", "window-close-v3": "close the window"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two tasks, six episodes of 170 ticks each, in the words of the tiny bundle; a picture every 34 ticks."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for task in TASKS:
        ticks = 6 * 170
        np.savez(
            folder / f"{task}.npz",
            image=rng.integers(0, 255, (30, 96, 96, 3), np.uint8),
            frame=(np.arange(ticks) // 34).astype(np.int32),
            episode=np.repeat(np.arange(6), 170).astype(np.int32),
            **{name: rng.uniform(-1, 1, (ticks, 4)).astype(np.float32) for name in ("state", "executed", "expert")},
        )
    write_meta(folder, WORDS)
    return folder


def write_meta(folder, words):
    meta = {
        "schema": "edgevla.demos/1",
        "period_s": 0.0125,
        "shards": [{"file": f"{task}.npz", "task": task, "half_way": False, "episodes": 6} for task in TASKS],
        "instructions": {task: {"train": [text]} for task, text in TASKS.items()},
        "known_instructions": TASKS,
        "vocabulary": words,
    }
    (folder / "dataset.json").write_text(json.dumps(meta))


def test_frames_have_the_shapes_the_bundle_declares(data, tiny_bundle_path):
    bundle, dataset = open_bundle(tiny_bundle_path), open_dataset(data, data)
    frames = bundle_frames(bundle, dataset, 320, 16)
    assert (len(frames.judged), len(frames.calibration)) == (320, 16)
    declared = {t.name: (t.shape, t.dtype) for stage in bundle.manifest.stages for t in stage.inputs}
    for name in declared.keys() & frames.judged[0].keys():
        value = frames.judged[0][name]
        assert (value.shape, str(value.dtype)) == declared[name]
    held = dataset.state[held_out(dataset.start)]
    stats = bundle.stats
    for kept, part in ((True, frames.judged), (False, frames.calibration)):
        states = [feeds["state"] * stats.state_scale + stats.state_offset for feeds in part]
        assert all((np.abs(held - state).max(1).min() < 1e-5) is np.bool_(kept) for state in states)
    assert "every 10th episode" in frames.note


def test_the_same_seed_gives_the_same_frames(data, tiny_bundle_path):
    bundle, dataset = open_bundle(tiny_bundle_path), open_dataset(data, data)
    first, again, other = (bundle_frames(bundle, dataset, 5, 2, seed).judged[0]["state"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_dataset_that_is_too_small_is_refused(data, tiny_bundle_path):
    with pytest.raises(BadInput, match="340 ticks to judge on"):
        bundle_frames(open_bundle(tiny_bundle_path), open_dataset(data, data), 341)


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["search", *map(str, arguments)])
    return main()


def test_the_command_says_that_nothing_is_worth_int8(data, tiny_bundle_path, tmp_path, monkeypatch, capsys):
    code = call(monkeypatch, tiny_bundle_path, "--data", data, "-o", tmp_path, "--frames", 300, "--rounds", 5)
    assert code == 0
    assert "no layer here is worth int8" in capsys.readouterr().out
    assert json.loads((tmp_path / "search.json").read_text())["artifact"] in ("fp32", "fp16")
    assert (tmp_path / "front.svg").is_file()


def test_a_duration_without_a_unit_is_a_usage_error(data, tiny_bundle_path, monkeypatch, capsys):
    assert call(monkeypatch, tiny_bundle_path, "--data", data, "--search-budget", "5") == 2
    assert "--search-budget" in capsys.readouterr().err


def test_the_graphs_of_a_flow_come_with_its_times_and_what_runs_once(tmp_path, tiny_bundle_path):
    graphs, fixed, times = float_graphs(write_rich_bundle(tmp_path / "rich.bundle", float_off=0.0))
    assert (list(graphs), fixed, times) == (["prefix", "step"], frozenset(), (1.0, 0.5, 0.25))
    graphs, fixed, times = float_graphs(open_bundle(tiny_bundle_path))
    assert (list(graphs), fixed, times) == (["text", "vision", "head"], {"text"}, ())
    with pytest.raises(BadInput, match="FP32 graphs"):
        float_graphs(write_rich_bundle(tmp_path / "without.bundle"))


def test_the_command_takes_a_lerobot_dataset_and_a_flow_of_two_cameras(tmp_path, monkeypatch, capsys):
    bundle = write_rich_bundle(tmp_path / "rich.bundle", float_off=0.0, recipe={"camera_sources": {"wrist": "none"}})
    rng, joints = np.random.default_rng(0), ("shoulder.pos", "elbow.pos")
    layout = Layout(fps=30, state_names=joints, action_names=joints, cameras=(Camera("front", 16, 16),), video=False)
    with LeRobotWriter(tmp_path / "data", layout) as writer:
        rows = rng.normal(size=(400, 2)).astype(np.float32)
        pictures = {"front": rng.integers(0, 256, (400, 16, 16, 3), dtype=np.uint8)}
        writer.add(Episode(rows, rows, pictures, "open"))
    asked = ("--data", tmp_path / "data", "-o", tmp_path / "out", "--frames", 300, "--rounds", 5)
    assert call(monkeypatch, bundle.path, *asked) == 0
    assert "fewer than 10 episodes" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/search.json").read_text())["artifact"] in ("fp32", "fp16")
