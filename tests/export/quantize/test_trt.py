"""The form that TensorRT reads: made by the artifact, proved by the checker, rule by rule."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgevla.errors import Refused
from export.quantize import trt
from export.quantize.attention import attentions
from export.quantize.check_trt import main, require_trt_form, violations
from export.quantize.graph import load
from tests.export.quantize.tools import build, convolution, gemm, linear, random_feeds, relative_rms, run


@pytest.fixture(scope="module")
def head(stages, feeds):
    return trt.quantize(stages["head"], feeds["head"])


def made(graph):
    return trt.quantize(graph, random_feeds(graph, 4))


def broken_by(graph, change):
    """Rules and nodes that the graph breaks after a change to the model."""
    model = onnx.load_model_from_string(graph)
    change(model, {node.name: node for node in model.graph.node}, {t.name: t for t in model.graph.initializer})
    return {(v.rule, v.node) for v in violations(model.SerializeToString())}


def put(tensors, name, value):
    tensors[name].CopyFrom(numpy_helper.from_array(np.asarray(value), name))


@pytest.mark.parametrize("graph", [linear(), linear(rank=3), gemm(), convolution()], ids=["2d", "3d", "Gemm", "Conv"])
def test_the_artifact_keeps_every_rule_and_its_answer_is_near(graph):
    frames = random_feeds(graph, 4)
    result = trt.quantize(graph, frames)
    assert violations(result) == []
    assert 0 < relative_rms(run(result, frames[0]), run(graph, frames[0])) < 0.03


def test_the_whole_student_keeps_every_rule(stages, feeds, head):
    assert violations(head) == []
    assert relative_rms(run(head, feeds["head"][0]), run(stages["head"], feeds["head"][0])) < 0.03


def test_both_products_of_every_attention_are_quantized(head):
    model = load(head)
    inputs = {node.name: list(node.input) for node in model.graph.node}
    found = attentions(model)
    assert len(found) == 3
    for a in found:
        for name in (a.scores, a.values):
            assert all(tensor.endswith("_dequantized") for tensor in inputs[name])


def test_keeping_both_products_of_an_attention_leaves_it_in_float(stages, feeds):
    (first, *_) = attentions(load(stages["head"]))
    result = trt.quantize(stages["head"], feeds["head"], keep=frozenset({first.scores, first.values}))
    inputs = {node.name: list(node.input) for node in load(result).graph.node}
    assert not any(tensor.endswith("_dequantized") for tensor in inputs[first.scores] + inputs[first.values])
    assert violations(result) == []


@pytest.mark.parametrize("half", ["scores", "values"])
def test_keeping_half_of_an_attention_is_refused(stages, feeds, half):
    (first, *_) = attentions(load(stages["head"]))
    with pytest.raises(Refused, match="QK and PV both in int8, or none"):
        trt.quantize(stages["head"], feeds["head"], keep=frozenset({getattr(first, half)}))


def test_the_checker_finds_half_quantized_attention(head):
    (first, *_) = attentions(load(head))

    def change(model, nodes, _):
        for position in (0, 1):
            pair = f"{first.values}_input{position}"
            nodes[first.values].input[position] = nodes[f"{pair}_Q"].input[0]
            model.graph.node.remove(nodes[f"{pair}_DQ"])
            model.graph.node.remove(nodes[f"{pair}_Q"])

    assert broken_by(head, change) == {("attention", first.softmax)}


def test_the_checker_finds_a_float_input():
    def change(model, nodes, _):
        nodes["product"].input[0] = "x"

    assert ("both-inputs", "product") in broken_by(made(linear()), change)


def test_the_checker_finds_a_weight_stored_in_int8():
    def change(model, nodes, tensors):
        nodes["product_input1_DQ"].input[0] = "stored"
        model.graph.node.remove(nodes["product_input1_Q"])
        model.graph.initializer.append(numpy_helper.from_array(np.ones((128, 160), np.int8), "stored"))

    broken = broken_by(made(linear()), change)
    assert broken == {("float-weight", "product"), ("pair", "product_input1_DQ")}


def test_the_checker_finds_a_weight_with_one_scale():
    def change(model, nodes, tensors):
        put(tensors, "product_input1_scale", np.float32(0.1))
        put(tensors, "product_input1_zero_point", np.int8(0))

    assert broken_by(made(linear()), change) == {("per-channel", "product")}


def test_the_checker_finds_scales_on_the_wrong_axis():
    def change(model, nodes, tensors):
        for name in ("product_input1_Q", "product_input1_DQ"):
            nodes[name].attribute[0].i = 0
        put(tensors, "product_input1_scale", np.full(128, 0.1, np.float32))
        put(tensors, "product_input1_zero_point", np.zeros(128, np.int8))

    assert broken_by(made(linear()), change) == {("per-channel", "product")}


def test_the_checker_finds_an_activation_with_a_scale_per_channel():
    def change(model, nodes, tensors):
        put(tensors, "product_input0_scale", np.full(128, 0.1, np.float32))
        put(tensors, "product_input0_zero_point", np.zeros(128, np.int8))

    assert broken_by(made(linear()), change) == {("per-tensor", "product")}


@pytest.mark.parametrize("zero", [np.int8(3), np.uint8(0), np.uint8(128)], ids=["3", "uint8", "middle"])
def test_the_checker_finds_an_asymmetric_activation(zero):
    def change(model, nodes, tensors):
        put(tensors, "product_input0_zero_point", zero)

    broken = broken_by(made(linear()), change)
    assert broken == {("symmetric", "product_input0_Q"), ("symmetric", "product_input0_DQ")}


def test_the_checker_finds_a_scale_of_zero():
    def change(model, nodes, tensors):
        put(tensors, "product_input0_scale", np.float32(0.0))

    assert ("symmetric", "product_input0_Q") in broken_by(made(linear()), change)


def test_the_checker_finds_q_and_dq_of_different_grids():
    def change(model, nodes, tensors):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "other"))
        nodes["product_input0_DQ"].input[1] = "other"

    assert broken_by(made(linear()), change) == {("pair", "product_input0_DQ")}


def test_the_checker_finds_a_dq_with_two_readers(stages, feeds):
    result = trt.quantize(stages["head"], feeds["head"])
    by_activation = {}
    for node in load(result).graph.node:
        if node.op_type == "QuantizeLinear":
            by_activation.setdefault(node.input[0], []).append(node.name.removesuffix("_Q"))
    one, two, *_ = next(pairs for pairs in by_activation.values() if len(pairs) > 1)

    def change(model, nodes, tensors):
        nodes[two.removesuffix("_input0")].input[0] = f"{one}_dequantized"

    assert ("one-consumer", f"{one}_DQ") in broken_by(result, change)


def test_the_checker_finds_q_dq_that_feeds_a_float_operator():
    def change(model, nodes, tensors):
        scale = [("s", np.float32(0.1)), ("z", np.int8(0))]
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in scale)
        pair = [
            helper.make_node("QuantizeLinear", ["z", "s", "z0"], ["zq"], "late_Q"),
            helper.make_node("DequantizeLinear", ["zq", "s", "z0"], ["zd"], "late_DQ"),
        ]
        model.graph.initializer[-1].name = "z0"
        nodes["relu"].input[0] = "zd"
        relu = model.graph.node.pop()
        model.graph.node.extend([*pair, relu])

    broken = broken_by(made(linear()), change)
    assert broken == {("only-products", "late_DQ")}


def test_the_checker_finds_a_quantized_bias():
    graph = made(convolution())

    def change(model, nodes, tensors):
        tensors["b"].CopyFrom(numpy_helper.from_array(np.zeros(48, np.int32), "b"))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "bs"))
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"], "bias_DQ"))
        nodes["product"].input[2] = "bd"

    broken = broken_by(graph, change)
    assert {("only-products", "bias_DQ"), ("pair", "bias_DQ"), ("symmetric", "bias_DQ")} == broken


def test_the_checker_finds_operators_that_quantize_at_run_time():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "dynamic"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["out"], "back"),
    ]
    graph = build(nodes, {"x": [4, 4]}, {"out": [4, 4]}, {})
    assert ("plain", "dynamic") in {(v.rule, v.node) for v in violations(graph)}


def test_the_checker_finds_versions_that_are_too_new():
    def change(model, nodes, tensors):
        model.ir_version = 11

    assert broken_by(made(linear()), change) == {("versions", "graph")}


def test_a_float_graph_is_no_trt_artifact():
    assert [v.rule for v in violations(linear())] == ["some-int8"]
    with pytest.raises(Refused, match=r"at least one product is quantized \[some-int8\]"):
        require_trt_form(linear())


def test_the_command_says_what_holds_and_what_does_not(tmp_path, capsys):
    (tmp_path / "good.onnx").write_bytes(made(linear()))
    (tmp_path / "float.onnx").write_bytes(linear())
    assert main([str(tmp_path / "good.onnx")]) == 0
    assert "form checked, never built by TensorRT here" in capsys.readouterr().out
    assert main([str(tmp_path / "float.onnx")]) == 1
    assert "[some-int8]" in capsys.readouterr().out
    assert main([str(tmp_path / "none.onnx")]) == 4
    assert main([]) == 2


def test_the_command_runs_as_a_module(tmp_path):
    path = tmp_path / "float.onnx"
    path.write_bytes(linear())
    command = [sys.executable, "-m", "export.quantize.check_trt", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("graph: at least one product is quantized [some-int8]")
