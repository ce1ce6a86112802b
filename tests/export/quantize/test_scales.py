"""One set of weight scales for every artifact."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgevla.errors import BadInput
from export.quantize import dynamic, static, trt
from export.quantize.graph import load, products, weight_of
from export.quantize.scales import (
    MAX_ABS,
    channel_scales,
    clipping_errors,
    load_scales,
    save_scales,
    to_int8,
    weight_error,
    weight_scales,
)
from tests.export.quantize.tools import build, linear, run


def stored_int8(graph):
    """Every two-dimensional int8 initializer, by the node it belongs to."""
    found = {}
    for tensor in onnx.load_model_from_string(graph).graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2:
            found[tensor.name.removesuffix("_weight_quantized")] = numpy_helper.to_array(tensor)
    return found


def trt_int8(graph):
    """What ONNX Runtime's own QuantizeLinear makes of the float weights of a trt artifact."""
    model, found = onnx.load_model_from_string(graph), {}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in constants:
            weights = {name: constants[name] for name in node.input}
            model_of_one = onnx.load_model_from_string(build([], {}, {}, weights))
            model_of_one.graph.node.append(node)
            model_of_one.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], 3, None))
            found[node.name.removesuffix("_input1_Q")] = run(model_of_one.SerializeToString(), {})
    return found


@pytest.mark.parametrize("stage", ["vision", "head"])
def test_every_artifact_has_the_same_int8_weights_bit_for_bit(stages, feeds, stage):
    graph, scales = stages[stage], weight_scales(stages[stage])
    by_kind = [
        stored_int8(dynamic.quantize(graph, scales=scales)),
        stored_int8(static.quantize(graph, feeds[stage], scales=scales)),
        trt_int8(trt.quantize(graph, feeds[stage], scales=scales)),
        stored_int8(dynamic.quantize(graph)),  # computed on the way: the same
    ]
    assert len(by_kind[0]) == {"vision": 2, "head": 17}[stage]
    for other in by_kind[1:]:
        assert other.keys() == by_kind[0].keys()
        assert all(np.array_equal(other[node], weight) for node, weight in by_kind[0].items())


def test_other_scales_give_other_weights(stages):
    graph = stages["vision"]
    doubled = {node: 2 * scale for node, scale in weight_scales(graph).items()}
    one, two = stored_int8(dynamic.quantize(graph)), stored_int8(dynamic.quantize(graph, scales=doubled))
    assert all(np.abs(two[node]).max() < np.abs(one[node]).max() for node in one)


def test_weights_use_the_symmetric_grid_without_its_lowest_number(stages):
    for weight in stored_int8(dynamic.quantize(stages["head"])).values():
        assert weight.min() == -127 or weight.max() == 127
        assert weight.min() > -128


def test_clipping_pays_where_a_channel_has_an_outlier_and_costs_nothing_elsewhere():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(100_000, 2)).astype(np.float32)
    weight[0, 0] = 8.0
    plain, best = channel_scales(weight, -1, MAX_ABS), channel_scales(weight, -1)
    assert plain[0] == np.float32(8 / 127)
    assert best[0] < 0.8 * plain[0]
    assert weight_error(weight, best, -1) < 0.9 * weight_error(weight, plain, -1)
    assert to_int8(-weight, best, -1).min() == -127


def test_the_clipping_report_never_shows_a_loss(stages):
    for plain, clipped in clipping_errors(stages["head"]).values():
        assert 0 < clipped <= plain < 0.01


def test_a_channel_of_zeros_stays_zero():
    weight = np.zeros((8, 2), np.float32)
    weight[:, 1] = 1
    scale = channel_scales(weight, 1)
    assert (scale > 0).all()
    assert not to_int8(weight, scale, 1)[:, 0].any()


def test_the_file_gives_back_every_scale_of_every_stage(stages, tmp_path):
    scales = {name: weight_scales(graph) for name, graph in stages.items()}
    save_scales(tmp_path / "scales.safetensors", scales)
    loaded = load_scales(tmp_path / "scales.safetensors")
    assert loaded.keys() == scales.keys()
    for stage, found in loaded.items():
        assert all(np.array_equal(value, scales[stage][node]) for node, value in found.items())
        assert found.keys() == scales[stage].keys()
    assert [path.name for path in tmp_path.iterdir()] == ["scales.safetensors"]


def test_scales_have_one_number_per_output_channel(stages):
    model = load(stages["head"])
    scales = weight_scales(stages["head"])
    for p in products(model):
        assert scales[p.node].shape == (weight_of(model, p.weight).shape[p.axis],)


def test_a_cut_file_is_one_error(stages, tmp_path):
    path = tmp_path / "scales.safetensors"
    save_scales(path, {"vision": weight_scales(stages["vision"])})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"a whole scales\.safetensors"):
        load_scales(path)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"product": np.ones(3, np.float32)}, {"product": np.zeros(160, np.float32)}],
    ids=["none", "3", "zero"],
)
def test_scales_of_another_graph_are_refused(wrong):
    with pytest.raises(BadInput, match="weight scales of product"):
        dynamic.quantize(linear(), scales=wrong)
