"""The table of errors: stages fed with float outputs, the whole with its own."""

import numpy as np
import pytest

from export.quantize.table import _cells, compare, feeds, main, relative_rms, run_stage, with_outputs
from tests.export.quantize.conftest import NARROW

COUNT = 5


@pytest.fixture(scope="module")
def floats(stages, text_stage):
    return {"text": text_stage, **stages}


@pytest.fixture(scope="module")
def frames(floats):
    rng = np.random.default_rng(0)
    chunk = (COUNT, NARROW.horizon, NARROW.actions)
    mask = np.zeros((COUNT, NARROW.horizon, 1), np.float32)
    mask[:, :2] = 1
    inputs = {
        "image": rng.uniform(-1, 1, (COUNT, 32, 32, 3)).astype(np.float32),
        "tokens": rng.integers(1, 20, (COUNT, NARROW.max_tokens)),
        "state": rng.normal(size=(COUNT, 4)).astype(np.float32),
        "noise": rng.normal(size=chunk).astype(np.float32),
        "prefix": rng.normal(size=chunk).astype(np.float32) * mask,
        "prefix_mask": mask,
    }
    return with_outputs(floats, inputs)


def test_every_stage_is_fed_by_the_one_before(floats, frames):
    assert {"text", "vision", "chunk"} <= frames.keys()
    assert set(feeds(floats["head"], frames)[0]) == {"vision", "text", "state", "noise", "prefix", "prefix_mask"}
    np.testing.assert_array_equal(run_stage(floats["head"], frames), frames["chunk"])


def test_a_float_artifact_has_no_error(floats, frames):
    row = compare(floats, floats, "fp32", frames, frames)
    assert (row.vision, row.head, row.whole, row.largest, row.smooth) == (0, 0, 0, 0, False)


def test_an_int8_artifact_has_a_small_one_in_every_column(floats, frames):
    row = compare(floats, floats, "dynamic-s8", frames, frames)
    assert all(0 < value < 0.03 for value in (row.vision, row.head, row.whole))
    assert 0.9 < row.head_int8_share < 1
    assert _cells(row)[0] == "dynamic-s8"
    assert _cells(row)[5].endswith("%")


def test_relative_rms_is_relative():
    assert relative_rms(np.array([1.1, 0.0]), np.array([1.0, 0.0])) == pytest.approx(0.1)


def test_a_missing_bundle_is_one_error(tmp_path, capsys):
    assert main([str(tmp_path / "none.bundle"), "--data", str(tmp_path)]) == 4
    assert "none.bundle" in capsys.readouterr().err
