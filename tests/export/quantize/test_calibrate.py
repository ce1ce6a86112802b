"""Ranges from frames, in bounded memory."""

import subprocess
import sys

import numpy as np
import pytest

from edgevla.errors import BadInput
from edgevla.policy.engine import open_session
from export.quantize import calibrate
from export.quantize.calibrate import TensorStats, collect, layer_outputs, observe
from tests.export.quantize.tools import linear, random_feeds

# Each frame makes two tensors of 8 MiB each
MANY_FRAMES = """
import resource, sys
from export.quantize.calibrate import collect
from tests.export.quantize.tools import linear, random_feeds
graph = linear(rows=8192, depth=256, channels=256)
feed = random_feeds(graph, 1)[0]
def frames(count):
    for _ in range(count):
        yield feed
collect(graph, ["y", "z"], frames(2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
collect(graph, ["y", "z"], frames(30))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def stats_of(*frames):
    stats = TensorStats()
    for frame in frames:
        stats.add(np.asarray(frame, np.float32))
    return stats


def test_memory_does_not_grow_with_the_number_of_frames():
    done = subprocess.run([sys.executable, "-c", MANY_FRAMES], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40  # MiB; the activations of 30 frames take 480


class Counting:
    """A session that notes how many bytes each run hands out."""

    def __init__(self, session, bytes_per_run):
        self.session, self.bytes_per_run = session, bytes_per_run

    def run(self, names, feed):
        values = self.session.run(names, feed)
        self.bytes_per_run.append(sum(value.nbytes for value in values))
        return values


@pytest.mark.parametrize(("budget", "runs"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3])])
def test_no_run_fetches_more_than_the_budget(monkeypatch, budget, runs):
    graph, fetched = linear(rows=64, depth=128, channels=160), []
    tensor_bytes = 4 * 64 * 160
    monkeypatch.setattr(calibrate, "open_session", lambda *a: Counting(open_session(*a), fetched))
    frames = observe(graph, ["y", "z", "out"], random_feeds(graph, 2), lambda *_: None, budget * tensor_bytes)
    assert frames == 2
    assert fetched == 2 * [count * tensor_bytes for count in runs]


def test_small_groups_give_the_same_ranges():
    graph = linear()
    whole = collect(graph, ["y", "z"], random_feeds(graph, 2))
    parts = collect(graph, ["y", "z"], random_feeds(graph, 2), budget_bytes=1)
    assert whole["z"].range() == parts["z"].range()


def test_ranges_are_the_extremes_over_all_frames():
    stats = stats_of([[1.0, -2.0]], [[0.5, 3.0]], [[0.0, 0.0]])
    assert stats.range() == (-2.0, 3.0)
    assert stats.symmetric_scale() == pytest.approx(3 / 127)
    assert stats.unsigned_scale() == (pytest.approx(5 / 255), 102)
    np.testing.assert_array_equal(stats.channel_max, [1.0, 3.0])


def test_zero_is_on_the_grid_of_a_tensor_that_never_reaches_it():
    assert stats_of([[2.0, 4.0]]).unsigned_scale() == (pytest.approx(4 / 255), 0)
    assert stats_of([[-2.0, -4.0]]).unsigned_scale() == (pytest.approx(4 / 255), 255)


def test_a_tensor_of_zeros_has_a_scale():
    assert stats_of([[0.0, 0.0]]).symmetric_scale() > 0


def test_the_histogram_widens_without_losing_counts():
    rng = np.random.default_rng(0)
    frames = [rng.normal(scale=scale, size=(100, 50)) for scale in (0.01, 1.0, 30.0)]
    values, stats = np.concatenate(frames), stats_of(*frames)
    for tail in (1e-3, 1e-2, 0.1):
        low, high = stats.range(tail)
        bin_width = 2 * 2 * np.abs(values).max() / 2048
        assert low == pytest.approx(np.quantile(values, tail), abs=2 * bin_width)
        assert high == pytest.approx(np.quantile(values, 1 - tail), abs=2 * bin_width)


def test_outputs_of_a_layer_are_those_of_the_graph():
    graph = linear()
    (feed,) = random_feeds(graph, 1)
    found = layer_outputs(graph, ["x", "z", "out"], feed)
    np.testing.assert_array_equal(found["x"], feed["x"])
    np.testing.assert_allclose(found["out"], np.maximum(found["z"], 0))


def test_calibration_without_frames_is_refused():
    with pytest.raises(BadInput, match=r"calibration\n.*at least one frame\n.*none"):
        collect(linear(), ["y"], [])


def test_a_frame_with_nan_is_named():
    graph = linear()
    feeds = random_feeds(graph, 3)
    feeds[1]["x"][0, 5] = np.nan
    with pytest.raises(BadInput, match="input x of calibration frame 2"):
        collect(graph, ["y"], feeds)


def test_a_tensor_that_becomes_infinite_is_named():
    graph = linear()
    feed = {"x": np.full((4, 128), 3e38, np.float32)}
    with pytest.raises(BadInput, match="tensor y in calibration"):
        collect(graph, ["y"], [feed])


@pytest.mark.parametrize("feed", [{}, {"x": np.zeros((4, 128), np.float32), "more": np.zeros(1)}])
def test_a_frame_with_other_inputs_is_named(feed):
    with pytest.raises(BadInput, match="calibration frame 1"):
        collect(linear(), ["y"], [feed])


def test_a_frame_of_another_shape_is_one_error():
    with pytest.raises(BadInput, match="calibration frame"):
        collect(linear(), ["y"], [{"x": np.zeros((4, 100), np.float32)}])
