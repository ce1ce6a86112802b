"""Frames of a dataset, and the command that searches a bundle."""

import json
import sys

import numpy as np
import pytest

from edgevla.bundle.reader import open_bundle
from edgevla.errors import BadInput
from export.search.__main__ import main
from export.search.frames import bundle_frames, held_out
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
        "shards": [{"file": f"{task}.npz", "task": task, "half_way": False, "episodes": 6} for task in TASKS],
        "instructions": {task: {"train": [text]} for task, text in TASKS.items()},
        "known_instructions": TASKS,
        "vocabulary": words,
    }
    (folder / "dataset.json").write_text(json.dumps(meta))


def test_every_tenth_episode_is_held_out():
    start = np.repeat(np.arange(0, 105, 5), 5)  # 21 episodes of 5 ticks
    assert np.flatnonzero(held_out(start)).tolist() == [*range(5), *range(50, 55), *range(100, 105)]


def test_frames_have_the_shapes_the_bundle_declares(data, tiny_bundle_path):
    bundle = open_bundle(tiny_bundle_path)
    judged, calibration = bundle_frames(bundle, data, 320, 16)
    assert (len(judged), len(calibration)) == (320, 16)
    declared = {t.name: (t.shape, t.dtype) for stage in bundle.manifest.stages for t in stage.inputs}
    for name, value in judged[0].items():
        assert (value.shape, str(value.dtype)) == declared[name]
    assert not any(np.array_equal(judged[0]["state"], other["state"]) for other in calibration)


def test_the_same_seed_gives_the_same_frames(data, tiny_bundle_path):
    bundle = open_bundle(tiny_bundle_path)
    first, again, other = (bundle_frames(bundle, data, 5, 2, seed)[0][0]["state"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_dataset_that_is_too_small_is_refused(data, tiny_bundle_path):
    with pytest.raises(BadInput, match="340 ticks in every 10th episode"):
        bundle_frames(open_bundle(tiny_bundle_path), data, 341)


def test_other_words_are_refused(data, tiny_bundle_path):
    write_meta(data, list(reversed(WORDS)))
    try:
        with pytest.raises(BadInput, match="words of the dataset"):
            bundle_frames(open_bundle(tiny_bundle_path), data)
    finally:
        write_meta(data, WORDS)


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
