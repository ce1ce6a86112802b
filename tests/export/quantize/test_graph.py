"""Products, their names, and graphs that are refused before anything is done."""

import numpy as np
import onnx
import pytest
from onnx import helper

from edgevla.errors import BadInput, Usage
from export.quantize.artifact import quantize
from export.quantize.graph import is_plain_gemm, layer_names, load, multiply_adds, split_gemms, worth_it
from export.quantize.readback import executed, int8_share
from tests.export.quantize.tools import build, convolution, gemm, linear, random_feeds, relative_rms, run


def test_layers_are_named_after_their_modules(stages):
    names = layer_names(stages["head"])
    assert len(set(names.values())) == len(names) == 20
    assert {"encoder.0.mlp.0", "encoder.0.attention.key", "head.0.cross_attention.out", "tokens.unembed"} <= set(
        names.values()
    )
    assert list(layer_names(stages["vision"]).values()) == ["stem.embed", "stem.mix"]
    assert {n.name for n in load(stages["vision"]).graph.node if n.op_type == "MatMul"} == set(
        layer_names(stages["vision"])
    )


def test_a_layer_without_a_named_parameter_keeps_its_node_name():
    assert layer_names(linear()) == {"product": "product"}


def test_names_are_the_same_for_the_same_graph(stages):
    assert list(layer_names(stages["head"])) == list(layer_names(stages["head"]))


def test_unnamed_and_twice_named_nodes_get_names_of_their_own():
    model = onnx.load_model_from_string(linear())
    for node in model.graph.node:
        node.name = "" if node.op_type == "MatMul" else "same"
    names = [node.name for node in load(model.SerializeToString()).graph.node]
    assert names == ["MatMul_0", "same", "Relu_2"]


def test_a_split_gemm_computes_the_same():
    graph = gemm()
    model = load(graph)
    split_gemms(model, ["product"])
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"]
    (feed,) = random_feeds(graph, 1)
    assert relative_rms(run(model.SerializeToString(), feed), run(graph, feed)) < 1e-6


def test_a_scaled_gemm_is_not_touched():
    model = load(gemm())
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", 0.5))
    assert not is_plain_gemm(model.graph.node[0])
    assert worth_it(model, frozenset()) == []


def test_multiply_adds_count_products_and_convolutions():
    assert multiply_adds(load(linear(rows=4, depth=128, channels=160))) == {"product": 4 * 128 * 160}
    assert multiply_adds(load(gemm(rows=4, depth=128, channels=160))) == {"product": 4 * 128 * 160}
    assert multiply_adds(load(convolution())) == {"product": 48 * 6 * 6 * 32 * 9}


def test_a_graph_with_dynamic_shapes_is_refused():
    model = onnx.load_model_from_string(linear())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(BadInput, match=r"input x\n.*static shape\n.*'batch'"):
        load(model.SerializeToString())


@pytest.mark.parametrize("raw", [b"", b"not a model", b"\x08\x0a"])
def test_bytes_that_are_no_model_are_refused(raw):
    with pytest.raises(BadInput, match="an ONNX model"):
        load(raw)


def test_keeping_an_unknown_node_is_refused_by_name():
    with pytest.raises(Usage, match=r"(?s)some of product.*got: +relu"):
        worth_it(load(linear()), frozenset({"relu"}))


def test_a_small_or_batched_weight_is_not_worth_it():
    assert worth_it(load(linear(depth=127)), frozenset()) == []
    nodes = [helper.make_node("MatMul", ["x", "w"], ["out"], "product")]
    batched = np.zeros((2, 128, 128), np.float32)
    graph = build(nodes, {"x": [2, 4, 128]}, {"out": [2, 4, 128]}, {"w": batched})
    assert worth_it(load(graph), frozenset()) == []


def test_what_depends_on_no_input_costs_nothing():
    """As the first queries of a resampler: learned numbers times a learned matrix."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=s).astype(np.float32) for name, s in
               {"latents": (4, 128), "query": (128, 160), "key": (128, 160)}.items()}  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["latents", "query"], ["q"], "queries"),
        helper.make_node("MatMul", ["x", "key"], ["k"], "keys"),
        helper.make_node("Add", ["q", "k"], ["out"], "sum"),
    ]
    graph = build(nodes, {"x": [4, 128]}, {"out": [4, 160]}, weights)
    assert multiply_adds(load(graph)) == {"queries": 0, "keys": 4 * 128 * 160}
    assert int8_share(quantize(graph, "dynamic-s8")) == 1.0  # ONNX Runtime computes the queries when it loads
    assert [ran.multiply_adds for ran in executed(graph) if ran.multiply_adds] == [4 * 128 * 160]
