"""The CPU artifact with calibrated activations: what really runs, read back from ONNX Runtime."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.quantize import static
from export.quantize.graph import load, rewrite
from export.quantize.readback import dequantized_weights, executed, int8_share
from tests.export.quantize.tools import gemm, linear, node_of, random_feeds, relative_rms, run


def with_added_biases(graph, count=None):
    """The artifact as it would be with Add instead of Sub (the last `count` of them): a tempting simplification."""
    model = onnx.load_model_from_string(graph)
    subtractions = [node for node in model.graph.node if node.op_type == "Sub"]
    for node in subtractions[-count if count else None :]:
        for tensor in model.graph.initializer:
            if node.op_type == "Sub" and tensor.name == node.input[1]:
                value = -onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
                node.op_type = "Add"
    return model.SerializeToString()


@pytest.mark.parametrize("rank", [2, 3])
def test_every_product_runs_in_int8_and_no_weight_is_dequantized_at_run_time(rank):
    graph = linear(rank=rank)
    result = static.quantize(graph, random_feeds(graph, 4))
    assert int8_share(result) == 1.0
    assert dequantized_weights(result) == []
    assert Counter(e.op for e in executed(result))["MatMulIntegerToFloat"] == 1


@pytest.mark.parametrize("rank", [2, 3])
def test_with_an_added_bias_the_weight_would_be_dequantized_at_every_run(rank):
    graph = linear(rank=rank)
    simplified = with_added_biases(static.quantize(graph, random_feeds(graph, 4)))
    assert dequantized_weights(simplified) == ["product_weight_DQ"]
    assert int8_share(simplified) == 0.0


def test_the_whole_student_runs_in_int8_but_for_small_layers_and_attention(stages, feeds):
    for name, least in (("vision", 1.0), ("head", 0.9)):
        result = static.quantize(stages[name], feeds[name])
        assert int8_share(result) >= least
        assert dequantized_weights(result) == []
        assert dequantized_weights(with_added_biases(result)) != []


def test_activations_are_unsigned_never_s8s8(stages, feeds):
    model = onnx.load_model_from_string(static.quantize(stages["head"], feeds["head"]))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantizers
    assert {types[node.input[2]] for node in quantizers} == {TensorProto.UINT8}


def test_products_of_activations_stay_float(stages, feeds):
    ran = executed(static.quantize(stages["head"], feeds["head"]))
    floats = [e for e in ran if e.op in ("MatMul", "FusedMatMul")]
    assert len(floats) == 6  # QK and PV of three attentions


@pytest.mark.parametrize("graph", [linear(), gemm()], ids=["MatMul", "Gemm"])
def test_the_answer_is_near_the_float_one(graph):
    frames = random_feeds(graph, 8)
    result = static.quantize(graph, frames)
    assert 0 < relative_rms(run(result, frames[0]), run(graph, frames[0])) < 0.02


def test_a_kept_product_stays_float(stages, feeds):
    result = static.quantize(
        stages["vision"], feeds["vision"], keep=frozenset({node_of(stages["vision"], "stem.embed")})
    )
    floats = [e.node for e in executed(result) if e.op in ("MatMul", "Gemm")]
    assert len(floats) == 1
    assert 0 < int8_share(result) < 1


def test_a_narrower_range_is_taken_when_asked_for():
    graph = linear()
    frames = random_feeds(graph, 4)
    frames[0]["x"][0, 0] = 50.0

    def scale(tail):
        model = load(static.quantize(graph, frames, tail=tail))
        return next(float(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer if t.name == "x_scale")

    assert scale(0.0) == pytest.approx((50 + 4) / 255, rel=0.1)
    assert scale(1e-3) < 0.3 * scale(0.0)


def test_a_bias_that_is_no_constant_is_left_as_it_is():
    model = load(linear())
    add = next(node for node in model.graph.node if node.op_type == "Add")
    replaced = onnx.helper.make_node("Add", ["y", "y"], ["z"], "bias")
    rewrite(model, {add.name: [replaced]})
    graph = model.SerializeToString()
    frames = random_feeds(graph, 4)
    result = static.quantize(graph, frames)
    assert any(e.op == "Add" for e in executed(result))
    assert relative_rms(run(result, frames[0]), run(graph, frames[0])) < 0.02
    assert np.isfinite(run(result, frames[0])).all()
