"""TensorRT's engine cache without TensorRT: keys, what is refused, what is marked. No GPU is needed, none was used."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import profiles
from edgevla.errors import Refused
from edgevla.policy import engines
from edgevla.policy.engines import Gpu, Libraries, build_engines, cache_at, engine_key, timing_key
from edgevla.policy.providers import RunsOn
from tests.tiny_bundle import write_tiny_bundle

ORIN, LIBRARIES = Gpu("Orin", "8.7"), Libraries(100_300, "1.20.0")
TRT = ("TensorrtExecutionProvider", "CPUExecutionProvider")
GRAPH = b"graph"


def test_another_gpu_graph_library_or_option_has_another_folder() -> None:
    keys = {
        engine_key(ORIN, LIBRARIES, GRAPH, {}),
        engine_key(replace(ORIN, name="H100"), LIBRARIES, GRAPH, {}),
        engine_key(replace(ORIN, capability="9.0"), LIBRARIES, GRAPH, {}),
        engine_key(ORIN, replace(LIBRARIES, tensorrt=100_400), GRAPH, {}),
        engine_key(ORIN, replace(LIBRARIES, onnxruntime="1.23.2"), GRAPH, {}),
        engine_key(ORIN, LIBRARIES, b"another", {}),
        engine_key(ORIN, LIBRARIES, GRAPH, {"trt_int8_enable": "1"}),
    }
    assert len(keys) == 7
    assert engine_key(ORIN, LIBRARIES, GRAPH, {"a": "1", "b": "2"}) == engine_key(
        ORIN, LIBRARIES, GRAPH, {"b": "2", "a": "1"}
    )


def test_the_timing_cache_is_of_a_gpu_and_a_tensorrt() -> None:
    assert timing_key(ORIN, LIBRARIES) == timing_key(ORIN, replace(LIBRARIES, onnxruntime="1.23.2"))
    assert timing_key(ORIN, LIBRARIES) != timing_key(ORIN, replace(LIBRARIES, tensorrt=100_400))


def on(folder: Path, build: bool) -> RunsOn:
    return RunsOn(TRT, engines=str(folder), build=build)


def test_run_refuses_an_engine_that_was_never_built(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        cache_at(GRAPH, "head", on(tmp_path, False), ORIN, LIBRARIES)
    text = str(caught.value)
    assert text.startswith("stage head has no TensorRT engine\n  expected: one in ")
    assert "none for Orin 8.7, TensorRT 100300" in text
    assert list(tmp_path.iterdir()) == []


def test_what_was_built_is_marked_and_then_read(tmp_path: Path) -> None:
    building = cache_at(GRAPH, "head", on(tmp_path, True), ORIN, LIBRARIES)
    assert building.options()["trt_engine_cache_path"] == str(building.folder)
    assert building.options()["trt_timing_cache_path"] == str(building.timing)
    (building.folder / "head_sm87.engine").write_bytes(b"engine")
    with pytest.raises(Refused):  # cut short before the mark: not taken
        cache_at(GRAPH, "head", on(tmp_path, False), ORIN, LIBRARIES)
    building.opened()
    reading = cache_at(GRAPH, "head", on(tmp_path, False), ORIN, LIBRARIES)
    assert reading.before == ("head_sm87.engine",)
    assert "trt_timing_cache_path" not in reading.options()
    reading.opened()


def test_an_engine_that_appears_while_a_run_opens_its_graph_is_refused(tmp_path: Path) -> None:
    cache_at(GRAPH, "head", on(tmp_path, True), ORIN, LIBRARIES).opened()  # a graph that needs none
    reading = cache_at(GRAPH, "head", on(tmp_path, False), ORIN, LIBRARIES)
    (reading.folder / "late.engine").write_bytes(b"engine")
    with pytest.raises(Refused, match=r"one that was built now: late\.engine"):
        reading.opened()


def test_an_engine_of_another_library_is_not_taken(tmp_path: Path) -> None:
    cache_at(GRAPH, "head", on(tmp_path, True), ORIN, LIBRARIES).opened()
    with pytest.raises(Refused, match="has no TensorRT engine"):
        cache_at(GRAPH, "head", on(tmp_path, False), ORIN, replace(LIBRARIES, tensorrt=100_400))


def test_without_a_driver_or_tensorrt_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(engines.ctypes, "CDLL", absent)
    with pytest.raises(Refused, match=r"TensorRT needs a GPU(.|\n)*libcuda\.so\.1"):
        engines.this_gpu()
    with pytest.raises(Refused, match=r"TensorRT is not installed(.|\n)*libnvinfer\.so\.10"):
        engines.these_libraries()


def test_a_cpu_target_has_no_engines_to_build(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle").path
    assert build_engines(bundle, profiles.load_target("host")) == {}
    assert not (tmp_path / "engines").exists()


def test_the_command_prints_one_object_or_one_error(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle").path

    def call(target: str) -> subprocess.CompletedProcess[str]:
        words = ["-m", "edgevla.policy.engines", "--bundle", str(bundle), "--target", target]
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, check=False)

    done = call("host")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"engines": {}})
    done = call("jetson-orin-trt")
    event = json.loads(done.stdout)
    assert (done.returncode, event["event"], event["exit_code"]) == (1, "error", 1)
    assert "an execution provider of the target is missing" in event["message"]
