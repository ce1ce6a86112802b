"""Execution providers with the ONNX Runtime that is installed: what it lacks is refused, never replaced in silence.

Its wheel for the CPU has one provider besides, AzureExecutionProvider, which takes no node of our graphs: it stands for
a GPU's provider that is there and runs nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import profiles
from edgevla.bundle import Bundle
from edgevla.bundle.verify import verify_golden, verify_graphs
from edgevla.errors import BadInput, Refused
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.engines import runs_on_of
from edgevla.policy.providers import ON_CPU, RunsOn, option_texts, require_loaded, require_used, runs_on_said
from edgevla.policy.session import open_session
from tests.tiny_bundle import write_tiny_bundle

AZURE, CPU = "AzureExecutionProvider", "CPUExecutionProvider"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("providers") / "tiny.bundle")


@pytest.fixture
def graph(bundle: Bundle) -> bytes:
    return bundle.model(bundle.manifest.stages[0].name)


@pytest.mark.parametrize("absent", ["TensorrtExecutionProvider", "CUDAExecutionProvider"])
def test_a_provider_that_is_not_installed_is_refused_though_the_cpu_could_run_it(graph: bytes, absent: str) -> None:
    with pytest.raises(Refused) as caught:
        open_session(graph, "whole", runs_on=RunsOn((absent, CPU)))
    text = str(caught.value)
    assert text.startswith(f"an execution provider of the target is missing\n  expected: {absent}\n")
    assert "in onnxruntime " in text


def test_the_tensorrt_target_is_refused_here_by_the_engine_too(bundle: Bundle) -> None:
    target = profiles.load_target("jetson-orin-trt")
    with pytest.raises(Refused, match="TensorrtExecutionProvider, CUDAExecutionProvider"):
        PolicyEngine(bundle, runs_on=runs_on_of(target, bundle.path))


def test_a_node_that_no_named_provider_takes_is_refused_when_the_graph_is_opened(graph: bytes) -> None:
    with pytest.raises(Refused) as caught:
        open_session(graph, "vision", runs_on=RunsOn((AZURE,)))
    text = str(caught.value)
    assert text.startswith(f"stage vision does not run on this target\n  expected: {AZURE}\n")
    assert "name CPUExecutionProvider last in `providers`" in text


def test_a_first_provider_that_ran_nothing_is_refused_after_the_first_inference(bundle: Bundle) -> None:
    engine = PolicyEngine(bundle, runs_on=RunsOn((AZURE, CPU)), read_back=True)
    golden = next(iter(bundle.golden.values()))
    engine.set_instruction(golden.instruction)
    camera, timing = bundle.manifest.cameras[0], bundle.manifest.timing
    image = {camera.name: np.zeros((camera.height, camera.width, 3), np.uint8)}
    engine.infer(image, bundle.stats.state_offset, np.zeros((timing.d_max, len(bundle.manifest.channels)), np.float32))
    found = engine.node_providers()
    assert {name for stage in found.values() for name in stage} == {CPU}
    with pytest.raises(Refused, match=f"the first provider of the target ran nothing\n  expected: nodes on {AZURE}"):
        require_used(found, (AZURE, CPU))
    require_used(found, (CPU,))


def test_golden_vectors_that_another_provider_answered_prove_nothing(bundle: Bundle) -> None:
    assert all(verdict.kept for verdict in verify_golden(bundle))
    with pytest.raises(Refused, match="the first provider of the target ran nothing"):
        verify_golden(bundle, RunsOn((AZURE, CPU)))
    with pytest.raises(Refused, match="does not run on this target"):
        verify_graphs(bundle, RunsOn((AZURE,)))


def test_nodes_elsewhere_than_the_target_says_are_refused() -> None:
    require_used({"whole": {CPU: 40}}, (CPU,))
    require_used({}, (CPU,))
    with pytest.raises(Refused, match="3 nodes of stage whole on CPUExecutionProvider"):
        require_used({"whole": {"CUDAExecutionProvider": 37, CPU: 3}}, ("CUDAExecutionProvider",))


def test_a_stage_of_words_may_run_on_the_cpu_beside_the_first_provider() -> None:
    require_used({"text": {CPU: 4}, "head": {"TensorrtExecutionProvider": 1}}, ("TensorrtExecutionProvider", CPU))


def test_a_provider_that_onnx_runtime_dropped_is_refused(graph: bytes) -> None:
    session = open_session(graph, "whole")  # a real session, on the CPU alone
    require_loaded(session, ON_CPU, "whole")
    with pytest.raises(Refused, match="stage whole: an execution provider of the target did not load"):
        require_loaded(session, RunsOn((AZURE, CPU)), "whole")


def test_spinning_and_threads_reach_the_session(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    opened = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: opened.append((a, k)) or real(*a, **k))
    for threads, spinning in ((1, True), (2, True), (2, False)):
        open_session(graph, "whole", threads, runs_on=RunsOn(spinning=spinning))
    options = [arguments[1] for arguments, _ in opened]
    assert [o.intra_op_num_threads for o in options] == [1, 2, 2]
    spins = [o.get_session_config_entry("session.intra_op.allow_spinning") for o in options]
    assert spins == ["0", "1", "0"]
    assert all(keywords["enable_fallback"] == 0 for _, keywords in opened)


def test_options_become_the_texts_that_onnx_runtime_reads() -> None:
    told = option_texts({"trt_int8_enable": True, "trt_dla_enable": False, "device_id": 0, "gpu": "x"})
    assert told == {"trt_int8_enable": "1", "trt_dla_enable": "0", "device_id": "0", "gpu": "x"}


def test_what_a_child_is_told_is_what_the_target_says() -> None:
    target = profiles.load_target("jetson-orin-trt")
    said = runs_on_of(target, Path("releases/abc/bundle"))
    assert said.engines == "releases/abc/engines"
    assert not said.build
    assert runs_on_said(json.loads(json.dumps(asdict(said)))) == said


def test_a_graph_that_is_none_stays_bad_input() -> None:
    with pytest.raises(BadInput, match="export the bundle again"):
        open_session(b"not a graph", "vision")
