"""Factors folded into neighbours: the same function, a smaller int8 error, and only where it helps."""

import numpy as np
import onnx
import pytest
from onnx import helper

from export.quantize import smoothquant
from export.quantize.artifact import quantize
from export.quantize.graph import load
from export.quantize.groups import find_groups
from export.quantize.smoothquant import smooth
from tests.export.quantize.tools import build, random_feeds, relative_rms, run

RNG = np.random.default_rng(3)
WIDTH = 128


def normal(*shape, scale=1.0):
    return (RNG.normal(size=shape) * scale).astype(np.float32)


def norm_then_linear(outlier=1.0, shared=False):
    """Two LayerNorms with a product each; channel 5 of the first is `outlier` times the others."""
    gain = np.ones(WIDTH, np.float32)
    gain[5] = outlier
    second = ["g", "nb"] if shared else ["g2", "nb2"]
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "nb"], ["n"], "norm", axis=-1),
        helper.make_node("MatMul", ["n", "w"], ["y"], "product"),
        helper.make_node("LayerNormalization", ["y", *second], ["n2"], "norm2", axis=-1),
        helper.make_node("MatMul", ["n2", "w2"], ["out"], "product2"),
    ]
    weights = {"g": gain, "nb": normal(WIDTH), "w": normal(WIDTH, WIDTH), "w2": normal(WIDTH, 160)}
    if not shared:
        weights |= {"g2": np.ones(WIDTH, np.float32), "nb2": np.zeros(WIDTH, np.float32)}
    return build(nodes, {"x": [1, 16, WIDTH]}, {"out": [1, 16, 160]}, weights)


def attention_values():
    """Values through probabilities into the output layer, as the exporter writes it."""
    shapes = {"split": np.array([1, 16, 4, 32]), "merge": np.array([1, 16, WIDTH])}
    loud = np.where(np.arange(WIDTH) == 7, 40.0, 1.0).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "wv"], ["v"], "value"),
        helper.make_node("Add", ["v", "bv"], ["vb"], "value_bias"),
        helper.make_node("Reshape", ["vb", "split"], ["v4"], "split_heads"),
        helper.make_node("Transpose", ["v4"], ["vt"], "to_heads", perm=[0, 2, 1, 3]),
        helper.make_node("Softmax", ["p"], ["ps"], "softmax"),
        helper.make_node("MatMul", ["ps", "vt"], ["pv"], "pv"),
        helper.make_node("Transpose", ["pv"], ["pt"], "from_heads", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["pt", "merge"], ["m"], "merge_heads"),
        helper.make_node("MatMul", ["m", "wo"], ["out"], "output"),
    ]
    weights = {"wv": normal(WIDTH, WIDTH) * loud, "bv": normal(WIDTH), "wo": normal(WIDTH, WIDTH), **shapes}
    return build(nodes, {"x": [1, 16, WIDTH], "p": [1, 4, 16, 16]}, {"out": [1, 16, WIDTH]}, weights)


def through_relu(extra_reader=False):
    loud = np.where(np.arange(WIDTH) == 3, 60.0, 1.0).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "first"),
        helper.make_node("Add", ["b", "y"], ["z"], "bias"),
        helper.make_node("Relu", ["z"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["s"], "second"),
        helper.make_node("Add", ["s", "r" if extra_reader else "s"], ["out"], "end"),
    ]
    weights = {"w": normal(WIDTH, WIDTH) * loud, "b": normal(WIDTH), "w2": normal(WIDTH, WIDTH)}
    return build(nodes, {"x": [1, 16, WIDTH]}, {"out": [1, 16, WIDTH]}, weights)


def int8_error(graph, reference, frames):
    result = quantize(graph, "dynamic-s8")
    pairs = [(run(result, f), run(reference, f)) for f in frames]
    return relative_rms(*(np.concatenate(side) for side in zip(*pairs, strict=True)))


@pytest.mark.parametrize(
    ("graph", "tensor"),
    [(norm_then_linear(50.0), "n"), (attention_values(), "m"), (through_relu(), "r")],
    ids=["LayerNorm", "attention values", "linear + ReLU"],
)
def test_folding_keeps_the_function_and_at_least_halves_the_error_of_an_outlier(graph, tensor):
    frames = random_feeds(graph, 8)
    result = smooth(graph, frames)
    (report,) = (r for r in result.groups if r.tensor == tensor)
    assert report.outliers == 1
    assert report.alpha is not None
    assert report.error_after < report.error_before / 2
    for feed in random_feeds(graph, 3, seed=9):
        assert relative_rms(run(result.graph, feed), run(graph, feed)) < 1e-5
    assert int8_error(result.graph, graph, frames) < 0.7 * int8_error(graph, graph, frames)


def test_without_outliers_nothing_changes():
    graph = norm_then_linear()
    result = smooth(graph, random_feeds(graph, 8))
    assert result.graph == graph
    assert [r.alpha for r in result.groups] == [None, None]
    assert all(r.error_before == r.error_after for r in result.groups)


def test_parameters_shared_between_layers_change_for_the_smoothed_one_only():
    graph = norm_then_linear(50.0, shared=True)
    frames = random_feeds(graph, 8)
    result = smooth(graph, frames)
    assert result.graph != graph
    assert relative_rms(run(result.graph, frames[0]), run(graph, frames[0])) < 1e-5


def test_the_student_stays_the_same_function(stages, feeds):
    for name, graph in stages.items():
        result = smooth(graph, feeds[name])
        for feed in random_feeds(graph, 2, seed=5):
            assert relative_rms(run(result.graph, feed), run(graph, feed)) < 1e-5


def test_every_norm_and_attention_output_of_the_student_is_a_group(stages):
    groups = find_groups(load(stages["head"]))
    assert len(groups) == 10
    assert sum(len(group.products) == 3 for group in groups) == 2  # query, key and value of two self-attentions


def test_a_tensor_that_something_else_reads_is_no_group():
    assert [g.tensor for g in find_groups(load(through_relu()))] == ["r"]
    assert find_groups(load(through_relu(extra_reader=True))) == []


def test_a_norm_whose_output_is_also_added_is_no_group():
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g"], ["n"], "norm", axis=-1),
        helper.make_node("MatMul", ["n", "w"], ["y"], "product"),
        helper.make_node("Add", ["n", "y"], ["out"], "residual"),
    ]
    weights = {"g": np.ones(WIDTH, np.float32), "w": normal(WIDTH, WIDTH)}
    graph = build(nodes, {"x": [1, 16, WIDTH]}, {"out": [1, 16, WIDTH]}, weights)
    assert find_groups(load(graph)) == []


def test_factors_that_do_not_help_on_other_frames_are_not_applied():
    graph = norm_then_linear()
    frames = random_feeds(graph, 8)
    for feed in frames[::2]:
        feed["x"][0, 0, 5] = 300.0  # only in the frames that choose alpha
    assert smooth(graph, frames).groups[0].alpha is None


def test_a_folding_that_is_not_exact_is_refused(monkeypatch):
    graph = norm_then_linear(50.0)
    original = smoothquant._multiply

    def forgets_the_norm(model, node, position, factor):
        if not node.startswith("norm"):
            original(model, node, position, factor)

    monkeypatch.setattr(smoothquant, "_multiply", forgets_the_norm)
    with pytest.raises(smoothquant.Refused, match="the same function"):
        smooth(graph, random_feeds(graph, 8))


def test_the_smoothed_graph_holds_no_unread_weight():
    graph = norm_then_linear(50.0)
    model = onnx.load_model_from_string(smooth(graph, random_feeds(graph, 8)).graph)
    read = {name for node in model.graph.node for name in node.input}
    assert {t.name for t in model.graph.initializer} <= read
