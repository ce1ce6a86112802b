"""The table of errors: stages fed with float outputs, the whole with its own."""

import json

import numpy as np
import pytest

from export.data.interface import Camera
from export.data.writer import Episode, Layout, LeRobotWriter
from export.quantize.table import Policy, _cells, compare, main, reference, relative_rms
from export.search.engines import with_stages
from tests.export.quantize.conftest import NARROW
from tests.rich_bundle import write_rich_bundle

COUNT = 5


@pytest.fixture(scope="module")
def known(stages, text_stage):
    """A narrow student on frames of random numbers, the words encoded."""
    rng, found = np.random.default_rng(0), []
    mask = (np.arange(NARROW.horizon) < 2).astype(np.float32)[None, :, None]
    chunk = (1, NARROW.horizon, NARROW.actions)
    for _ in range(COUNT):
        found.append({
            "image": rng.uniform(-1, 1, (1, 1, 32, 32, 3)).astype(np.float32),
            "tokens": rng.integers(1, 20, (1, NARROW.max_tokens)),
            "state": rng.normal(size=(1, 4)).astype(np.float32),
            "noise": rng.normal(size=chunk).astype(np.float32),
            "prefix": rng.normal(size=chunk).astype(np.float32) * mask,
            "prefix_mask": mask,
        })  # fmt: skip
    frames = with_stages({"text": text_stage}, found)
    return reference(Policy(stages, (), NARROW.actions), frames, frames)


def test_every_stage_is_fed_by_the_one_before(known):
    assert set(known.feeds["head"][0]) == {"vision", "text", "state", "noise", "prefix", "prefix_mask"}
    assert len(known.feeds["vision"]) == len(known.chunks) == COUNT
    for feeds, (seen,) in zip(known.feeds["head"], known.answers["vision"], strict=True):
        np.testing.assert_array_equal(feeds["vision"], seen)
    np.testing.assert_array_equal(known.answers["head"][3][0], known.chunks[3])


def test_a_float_artifact_has_no_error(known):
    row = compare(known.policy.floats, "fp32", known)
    assert (row.stages, row.whole, row.largest, row.smooth) == ({"vision": 0, "head": 0}, 0, 0, False)


def test_an_int8_artifact_has_a_small_one_in_every_column(known):
    row = compare(known.policy.floats, "dynamic-s8", known)
    assert list(row.stages) == ["vision", "head"]
    assert all(0 < value < 0.03 for value in (*row.stages.values(), row.whole))
    assert 0.9 < row.int8_share < 1
    assert _cells(row)[0] == "dynamic-s8"
    assert _cells(row)[5].endswith("%")


def test_relative_rms_is_relative_and_over_all_outputs():
    one, other = np.array([1.0, 0.0]), np.array([0.0])
    assert relative_rms([[np.array([1.1, 0.0]), other]], [[one, other]]) == pytest.approx(0.1)
    assert relative_rms([[one], [one * 1.1]], [[one], [one]]) == pytest.approx(0.1 / 2**0.5)


def test_a_flow_of_two_cameras_has_a_table_and_what_cannot_be_made_is_said(tmp_path, capsys):
    bundle = write_rich_bundle(tmp_path / "rich.bundle", float_off=0.0, recipe={"camera_sources": {"wrist": "none"}})
    rng, joints = np.random.default_rng(0), ("shoulder.pos", "elbow.pos")
    layout = Layout(fps=30, state_names=joints, action_names=joints, cameras=(Camera("front", 16, 16),), video=False)
    with LeRobotWriter(tmp_path / "data", layout) as writer:
        rows = rng.normal(size=(20, 2)).astype(np.float32)
        pictures = {"front": rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)}
        writer.add(Episode(rows, rows, pictures, "open"))
    asked = ["--data", tmp_path / "data", "--work", tmp_path / "work", "--frames", 12, "--calibration", 6]
    assert main([str(bundle.path), *map(str, asked), "--json", str(tmp_path / "table.json")]) == 0
    assert "fewer than 10 episodes" in capsys.readouterr().out
    found = json.loads((tmp_path / "table.json").read_text())
    row = next(row for row in found["rows"] if row["kind"] == "fp16")
    assert list(row["stages"]) == ["prefix", "step"]
    assert 0 < row["whole"] < 0.01


def test_a_missing_bundle_is_one_error(tmp_path, capsys):
    assert main([str(tmp_path / "none.bundle"), "--data", str(tmp_path)]) == 4
    assert "none.bundle is no bundle" in capsys.readouterr().err
