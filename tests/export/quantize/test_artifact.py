"""Every kind on the reference student: its error, its versions, what runs in int8, what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgevla.errors import BadInput, Refused, Usage
from export.quantize import artifact, dynamic, static
from export.quantize.artifact import KINDS, quantize, record, require_as_claimed
from export.quantize.readback import executed, int8_share
from tests.export.quantize.test_static import with_added_biases
from tests.export.quantize.tools import gemm, linear, node_of, random_feeds, relative_rms, run

# Relative rms of the head on its calibration frames, random weights: twice what was seen
LARGEST_ERROR = {
    "fp32": 0.0,
    "fp16": 1e-3,
    "dynamic-s8": 0.003,
    "static-qdq": 0.004,
    "trt": 0.006,
    "nbits8": 0.003,
    "nbits4": 0.03,
}
HOST = {"cpu": "a CPU", "arch": "x86_64", "flags": ["avx2", "avx512f"], "vnni": False}


@pytest.fixture(scope="module")
def heads(stages, feeds):
    return {kind: quantize(stages["head"], kind, calibration=feeds["head"]) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_what_its_bits_allow(stages, feeds, heads, kind):
    pairs = [(run(heads[kind], feed), run(stages["head"], feed)) for feed in feeds["head"]]
    error = relative_rms(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    assert LARGEST_ERROR[kind] / 20 <= error <= LARGEST_ERROR[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_versions_and_interface_stay_and_nothing_tells_where_it_was_made(stages, heads, kind):
    before, after = (onnx.load_model_from_string(g) for g in (stages["head"], heads[kind]))
    assert after.ir_version == before.ir_version == 10
    assert {entry.domain: entry.version for entry in after.opset_import}[""] == 20
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert not after.metadata_props
    assert not after.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in after.graph.node)
    onnx.checker.check_model(after)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_graph_gives_the_same_bytes(stages, feeds, heads, kind):
    assert quantize(stages["head"], kind, calibration=feeds["head"]) == heads[kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "fp32"])
def test_a_kept_node_stays_in_float32(stages, feeds, kind):
    node = node_of(stages["vision"], "stem.embed")
    result = quantize(stages["vision"], kind, calibration=feeds["vision"], keep=frozenset({node}))
    model = onnx.load_model_from_string(result)
    (kept,) = (n for n in model.graph.node if n.name == node)
    assert kept.op_type == "MatMul"
    weight = next(t for t in model.graph.initializer if t.name in kept.input)
    original = next(t for t in onnx.load_model_from_string(stages["vision"]).graph.initializer if t.name == weight.name)
    values = numpy_helper.to_array(weight)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, numpy_helper.to_array(original))


@pytest.mark.parametrize("kind", KINDS)
def test_keeping_an_unknown_node_is_refused(stages, feeds, kind):
    with pytest.raises(Usage, match="node_of_my_dreams"):
        quantize(stages["vision"], kind, calibration=feeds["vision"], keep=frozenset({"node_of_my_dreams"}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_with_dynamic_shapes_is_refused(kind):
    model = onnx.load_model_from_string(linear())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(BadInput, match="a static shape"):
        quantize(model.SerializeToString(), kind, calibration=[])


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(Usage, match=r"dynamic-s8 \| static-qdq"):
        quantize(linear(), "int7")


@pytest.mark.parametrize("kind", ["static-qdq", "trt"])
def test_a_static_kind_without_calibration_is_refused(kind):
    with pytest.raises(BadInput, match="feeds of real frames"):
        quantize(linear(), kind)
    with pytest.raises(BadInput, match="at least one frame"):
        quantize(linear(), kind, calibration=[])


@pytest.mark.parametrize("kind", ["dynamic-s8", "static-qdq", "trt", "nbits8", "nbits4"])
def test_a_graph_with_nothing_worth_it_is_left_as_it_is(kind):
    graph = linear(depth=64, channels=64)
    assert quantize(graph, kind, calibration=random_feeds(graph, 1)) == graph


def test_the_share_in_int8_is_that_of_the_multiply_adds(stages, heads):
    assert int8_share(stages["head"]) == 0.0
    assert 0.9 < int8_share(heads["dynamic-s8"]) < 1.0
    assert int8_share(heads["static-qdq"]) == int8_share(heads["dynamic-s8"])
    assert int8_share(heads["nbits8"]) == 0.0


def test_an_artifact_that_falls_back_to_float_is_refused():
    graph = linear()
    fallen = with_added_biases(static.quantize(graph, random_feeds(graph, 2)))
    with pytest.raises(Refused, match=r"(?s)100\.0% in int8.*got: +0\.0% of the multiply-adds"):
        require_as_claimed(graph, fallen, "static-qdq")


def test_an_artifact_that_falls_back_in_part_is_refused(stages, feeds):
    good = static.quantize(stages["head"], feeds["head"])
    require_as_claimed(stages["head"], good, "static-qdq")
    with pytest.raises(Refused, match="after ONNX Runtime's optimisation"):
        require_as_claimed(stages["head"], with_added_biases(good, count=3), "static-qdq")
    assert int8_share(with_added_biases(good, count=3)) > 0.5


def test_quantize_itself_reads_back_what_runs(monkeypatch):
    graph = linear()
    fallen = with_added_biases(static.quantize(graph, random_feeds(graph, 2)))
    monkeypatch.setattr(static, "quantize", lambda *_: fallen)
    with pytest.raises(Refused, match="static-qdq after"):
        quantize(graph, "static-qdq", calibration=random_feeds(graph, 2))


def test_trt_is_checked_before_it_is_handed_out(monkeypatch):
    monkeypatch.setattr(artifact.trt, "quantize", lambda *_: dynamic.quantize(linear()))
    with pytest.raises(Refused, match="form for TensorRT"):
        quantize(linear(), "trt", calibration=random_feeds(linear(), 1))


def test_everything_runs_on_the_cpu_provider(heads):
    assert {e.provider for e in executed(heads["dynamic-s8"])} == {"CPUExecutionProvider"}


def test_the_record_names_layers_and_saturation_on_a_cpu_without_vnni(stages, heads):
    said = record(stages["head"], heads["dynamic-s8"], "dynamic-s8", HOST)
    assert said["float"] == ["state.0", "tokens.embed", "tokens.unembed"]
    assert len(said["quantized"]) == 17
    assert 0.9 < said["int8_share"] < 1
    assert said["host"]["flags"] == ["avx2", "avx512f"]
    assert any("U8S8 products saturate on this CPU" in note for note in said["notes"])


@pytest.mark.parametrize("host", [{**HOST, "vnni": True}, {**HOST, "arch": "aarch64"}], ids=["VNNI", "Arm"])
def test_the_record_is_silent_where_nothing_saturates(stages, heads, host):
    assert record(stages["head"], heads["static-qdq"], "static-qdq", host)["notes"] == []


def test_the_record_of_trt_says_that_no_engine_was_built(stages, heads):
    said = record(stages["head"], heads["trt"], "trt", HOST)
    assert said["notes"] == ["form checked, never built by TensorRT here"]
    assert said["int8_share"] is None


@pytest.mark.parametrize("bits", [8, 4])
def test_block_weights_take_less_and_also_those_of_a_gemm(bits):
    graph = gemm(depth=256, channels=256)
    result = quantize(graph, f"nbits{bits}")
    assert [n.op_type for n in onnx.load_model_from_string(result).graph.node] == ["MatMulNBits", "Add"]
    assert len(result) < len(graph) * (bits / 32 + 0.05)


def test_float16_keeps_float32_inputs_and_outputs_and_halves_the_weights(stages, heads):
    model = onnx.load_model_from_string(heads["fp16"])
    assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {TensorProto.FLOAT}
    assert len(heads["fp16"]) < 0.52 * len(stages["head"])


def test_a_weight_beyond_float16_is_refused():
    model = onnx.load_model_from_string(linear())
    bias = next(t for t in model.graph.initializer if t.name == "b")
    bias.CopyFrom(numpy_helper.from_array(np.full(160, 7e4, np.float32), "b"))
    with pytest.raises(BadInput, match="weight b"):
        quantize(model.SerializeToString(), "fp16")
