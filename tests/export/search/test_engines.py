"""Stages behind each other, on both engines: the same chunk, and what is told when one is missing."""

import builtins
import importlib
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgevla.errors import BadInput
from export.search.engines import merged, openvino_chain, ort_chain, stage_feeds
from export.search.measure import baselines
from tests.export.search.policy import both, context, flow_step, policy_frames, policy_graphs


@pytest.fixture(scope="module")
def timed():
    graphs, frames = policy_graphs(), policy_frames(8)
    text = ort_chain({"text": graphs.pop("text")})
    return graphs, [text.outputs(feeds) for feeds in frames]


def test_a_flow_step_runs_once_per_time_on_its_own_answer():
    one = np.ones((1, 2, 1), np.float32)
    chain = ort_chain({"context": context(), "step": flow_step()}, times=(0.25, 0.5))
    assert chain({"image": one, "noise": 10 * one}).ravel() == pytest.approx([10 + 0.75 + 2 * 2] * 2)


def test_openvino_runs_a_flow_too():
    one = np.ones((1, 2, 1), np.float32)
    chain, _ = openvino_chain({"context": context(), "step": flow_step()}, times=(0.25, 0.5))
    assert chain({"image": one, "noise": 10 * one}).ravel() == pytest.approx([14.75] * 2)


def test_merged_stages_answer_what_they_answer_one_by_one(timed):
    graphs, frames = timed
    whole = {"policy": merged(graphs)}
    assert ort_chain(whole)(frames[0]) == pytest.approx(ort_chain(graphs)(frames[0]), abs=1e-6)


def test_an_input_that_two_stages_take_is_fed_once():
    whole = merged({"context": context(), "both": both()})
    assert [value.name for value in onnx.load_model_from_string(whole).graph.input] == ["image"]
    assert ort_chain({"policy": whole})({"image": np.ones((1, 2, 1), np.float32)}).ravel() == pytest.approx([3, 3])


def test_openvino_answers_nearly_the_same_and_says_its_precision(timed):
    graphs, frames = timed
    chain, precision = openvino_chain(graphs)
    assert precision in ("f32", "bf16", "f16")
    assert np.array(chain(frames[0])) == pytest.approx(ort_chain(graphs)(frames[0]), abs=0.05)


def test_nncf_quantizes_what_openvino_runs(timed):
    graphs, frames = timed
    chain, precision = openvino_chain(graphs, int8_frames=frames)
    exact, got = ort_chain(graphs)(frames[0]), np.array(chain(frames[0]))
    assert precision == "int8 (NNCF)"
    assert 1e-4 < np.abs(got - exact).max() < 1.0


def test_each_stage_is_calibrated_on_what_the_stage_before_answers(timed):
    graphs, frames = timed
    feeds = stage_feeds(graphs, frames)
    assert set(feeds["vision"][0]) == {"image"}
    assert len(feeds["head"]) == 8
    assert feeds["head"][3]["vision"].shape == (1, 6, 256)


def test_a_flow_step_is_calibrated_on_all_of_its_times():
    one = np.ones((1, 2, 1), np.float32)
    graphs, frames = {"context": context(), "step": flow_step()}, [{"image": one, "noise": 10 * one}] * 3
    feeds = stage_feeds(graphs, frames, times=(0.25, 0.5))["step"]
    assert [feed["t"].item() for feed in feeds] == [0.25, 0.5, 0.25]
    assert [feed["noisy"].ravel()[0] for feed in feeds] == pytest.approx([10, 10 + 0.25 + 2, 10])


def test_a_missing_baseline_is_said_with_the_extra_that_brings_it(timed, monkeypatch):
    def without(name):
        if name == "openvino":
            raise ImportError("No module named 'openvino'")
        return builtins.__import__(name)

    monkeypatch.setattr(importlib, "import_module", without)
    graphs, frames = timed
    with pytest.raises(BadInput, match=r"edgevla\[compare\]"):
        openvino_chain(graphs)
    found, missing = baselines(graphs, frames)
    assert found == []
    assert missing[0].startswith("openvino is not measured")
    assert "\n" not in missing[0]


SIGNALLED = """
import gc, os, signal
from export.search.engines import openvino_chain
from tests.export.search.policy import policy_frames, policy_graphs
graphs, frames = policy_graphs(), policy_frames(8)
text = {"text": graphs.pop("text")}
kept = openvino_chain(text), openvino_chain(graphs)
first, second = kept
del kept, first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_are_still_handled_after_openvino():
    """Its CPU plugin moves the signal stack of the thread: with a core for each model it was left unmapped."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
