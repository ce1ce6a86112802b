"""The engine answers what ONNX Runtime answers when it is called by hand, and never something that is not finite."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgevla.bundle import open_bundle, write_bundle
from edgevla.errors import BadInput, DeviceFault
from edgevla.policy.engine import PolicyEngine, open_session
from tests.tiny_bundle import WORDS, tiny_files, tiny_graphs, tiny_manifest

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
STATE = np.array([0.1, 0.7, 0.15, 0.5], np.float32)
PREFIX = np.random.default_rng(1).uniform(-1, 1, (2, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tiny_bundle_path):
    return open_bundle(tiny_bundle_path)


@pytest.fixture
def engine(bundle):
    engine = PolicyEngine(bundle)
    engine.set_instruction("close the window")
    return engine


def by_hand(graph, **feeds):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def spoilt_bundle(dest, folder, weight, value):
    """A bundle whose head graph in `folder` has one weight filled with a value."""
    files = tiny_files()
    model = onnx.load_model_from_string(files[f"{folder}/head.onnx"])
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            array = np.full(tuple(tensor.dims), value, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, weight))
    files[f"{folder}/head.onnx"] = model.SerializeToString()
    return write_bundle(dest, tiny_manifest(), files)


def test_a_chunk_is_what_onnx_runtime_says_of_the_same_numbers(engine, bundle):
    tokens = np.zeros((1, 16), np.int64)
    tokens[0, :3] = [WORDS.index(word) + 1 for word in ("close", "the", "window")]
    graphs = tiny_graphs()
    prefix, mask = np.zeros((1, 32, 4), np.float32), np.zeros((1, 32, 1), np.float32)
    prefix[0, :2], mask[0, :2] = PREFIX, 1
    expected = by_hand(
        graphs["head"],
        text=by_hand(graphs["text"], tokens=tokens),
        vision=by_hand(graphs["vision"], image=(IMAGE / 127.5 - 1).astype(np.float32)[None, None]),
        state=((STATE - [0.0, 0.6, 0.2, 0.5]) / [0.1, 0.1, 0.1, 0.5]).astype(np.float32)[None],
        noise=bundle.noise[None],
        prefix=prefix,
        prefix_mask=mask,
    )[0]
    np.testing.assert_allclose(engine.infer(IMAGE, STATE, PREFIX), expected, atol=1e-6)


def test_the_first_rows_are_the_prefix(engine):
    chunk = engine.infer(IMAGE, STATE, PREFIX)
    assert chunk.shape == (32, 4)
    assert (chunk[:2] == PREFIX).all()


def test_the_same_observation_gives_the_same_chunk_and_other_words_another(engine):
    first = engine.infer(IMAGE, STATE, PREFIX)
    assert (engine.infer(IMAGE, STATE, PREFIX) == first).all()
    engine.set_instruction("open the door")
    assert (engine.infer(IMAGE, STATE, PREFIX) != first).any()


def test_without_an_instruction_nothing_is_inferred(bundle):
    with pytest.raises(BadInput, match="no instruction"):
        PolicyEngine(bundle).infer(IMAGE, STATE, PREFIX)


def test_a_refused_instruction_leaves_the_last_one_in_force(engine):
    first = engine.infer(IMAGE, STATE, PREFIX)
    with pytest.raises(BadInput, match="outside the vocabulary"):
        engine.set_instruction("open the fridge")
    assert (engine.infer(IMAGE, STATE, PREFIX) == first).all()


def test_an_image_of_another_size_is_refused(engine):
    with pytest.raises(BadInput, match="image of camera corner"):
        engine.infer(IMAGE[::2, ::2], STATE, PREFIX)


def test_an_answer_that_is_not_finite_is_a_device_fault(tmp_path):
    engine = PolicyEngine(spoilt_bundle(tmp_path / "nan.bundle", "model", "out_weight", np.nan))
    engine.set_instruction("open the door")
    with pytest.raises(DeviceFault, match="NaN or infinity"):
        engine.infer(IMAGE, STATE, PREFIX)


def test_the_float_model_runs_the_float_graphs(tmp_path):
    bundle = spoilt_bundle(tmp_path / "two.bundle", "float", "out_weight", 0.0)
    chunks = []
    for float_model in (False, True):
        engine = PolicyEngine(bundle, float_model=float_model)
        engine.set_instruction("open the door")
        chunks.append(engine.infer(IMAGE, STATE, PREFIX))
    np.testing.assert_allclose(chunks[1][2:], np.tanh(0.1 * bundle.noise)[2:], atol=1e-6)
    assert np.abs(chunks[0] - chunks[1]).max() > 0.1


def test_set_points_start_at_the_anchor_in_metres(engine):
    anchor = np.array([0.1, 0.6, 0.2, -1.0], np.float32)
    chunk = np.zeros((32, 4), np.float32)
    chunk[:, 0], chunk[:, 3] = 1.0, 0.5  # 0.01 m per tick
    told = engine.to_setpoints(chunk, anchor, 2)
    np.testing.assert_allclose(told[:5, 0], [0.1, 0.1, 0.11, 0.12, 0.13], atol=1e-6)
    np.testing.assert_allclose(told[:3, 3], [-1.0, -1.0, 0.5], atol=1e-6)
    assert (told[2:, 1:3] == anchor[1:3]).all()


def test_every_stage_leaves_its_duration(engine):
    engine.infer(IMAGE, STATE, PREFIX)
    assert set(engine.stage_ns) == {"preprocess", "text", "vision", "head"}
    assert all(duration > 0 for duration in engine.stage_ns.values())


def test_a_graph_that_is_none_is_bad_input_naming_the_stage():
    with pytest.raises(BadInput, match="stage vision"):
        open_session(b"not a graph", "vision")


def test_velocity_channels_are_refused(tmp_path):
    manifest = tiny_manifest()
    manifest["channels"][1]["kind"] = "velocity"
    with pytest.raises(BadInput, match="velocity: y"):
        PolicyEngine(write_bundle(tmp_path / "fast.bundle", manifest, tiny_files()))


DENORMALS = """
import sys, threading, warnings
import numpy as np
from edgevla.policy.engine import open_session
warnings.simplefilter("error")
session = open_session(open(sys.argv[1], "rb").read(), "quarters")
def ask():
    print(*session.run(None, {"x": np.array([2e-38, 2.0], np.float32)})[0])
ask()
other = threading.Thread(target=ask)
other.start()
other.join()
print(np.finfo(np.float32), file=sys.stderr)
"""


def test_what_is_too_small_for_a_normal_float_is_zero_in_every_thread(tmp_path):
    """Its slow path would make a tick cost what its numbers are. In a process of its own: the first session decides."""
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy")
    quarter = numpy_helper.from_array(np.array([0.25], np.float32), "quarter")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "quarter"], ["y"])], "quarters", [x], [y], [quarter])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "quarter.onnx")
    asked = [sys.executable, "-c", DENORMALS, str(tmp_path / "quarter.onnx")]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "0.0 0.5\n0.0 0.5\n"), done.stderr
