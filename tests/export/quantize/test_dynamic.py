"""Which products become int8, and how: checked in the graph itself."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from edgevla.policy.engine import open_session
from export.onnx.stages import StageSpec, export_stage
from export.quantize.dynamic import quantize

INTEGER = {"MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}


class Mixed(nn.Module):
    """One product worth it, two with a short side, and one of two activations."""

    def __init__(self):
        super().__init__()
        self.large = nn.Linear(128, 192)
        self.narrow = nn.Linear(192, 127)
        self.short = nn.Linear(64, 128)

    def forward(self, x, y):
        wide = torch.relu(self.large(x))
        scores = wide @ wide.transpose(-1, -2)  # 192 deep: large, but of two activations
        return self.narrow(wide).sum() + scores.sum() + self.short(y).sum() + wide


@pytest.fixture(scope="module")
def spec():
    torch.manual_seed(0)
    return StageSpec("mixed", Mixed().eval(), {"x": torch.randn(1, 140, 128), "y": torch.randn(1, 3, 64)}, ("out",))


@pytest.fixture(scope="module")
def graph(spec):
    return export_stage(spec)


@pytest.fixture(scope="module")
def model(graph):
    return onnx.load_model_from_string(quantize(graph))


def weights(model):
    return {tensor.name: tensor for tensor in model.graph.initializer}


def integer_products(model):
    return [node for node in model.graph.node if node.op_type in INTEGER]


def test_only_the_product_with_two_long_weight_sides_is_int8(model):
    (product,) = integer_products(model)
    shapes = [list(weights(model)[name].dims) for name in product.input if name in weights(model)]
    assert [128, 192] in shapes


def test_its_weight_is_signed_and_symmetric_with_a_scale_per_output_channel(model, spec):
    (product,) = integer_products(model)
    stored = weights(model)
    names = [name for name in product.input if name in stored]
    weight = stored[next(name for name in names if len(stored[name].dims) == 2)]
    assert weight.data_type == TensorProto.INT8
    zero = [stored[name] for name in names if "zero_point" in name]
    assert zero
    assert all(not numpy_helper.to_array(z).any() for z in zero)
    scale = numpy_helper.to_array(stored[weight.name.replace("quantized", "scale")])
    assert scale.shape == (192,)
    original = spec.module.large.weight.detach().numpy().T
    np.testing.assert_allclose(scale, np.abs(original).max(0) / 127, rtol=0.02)
    restored = numpy_helper.to_array(weight) * scale
    assert np.abs(restored - original).max() <= 0.51 * scale.max()


def test_products_of_activations_and_small_ones_stay_float(graph, model):
    def floats(m):
        return sum(node.op_type in ("MatMul", "Gemm") for node in m.graph.node)

    assert floats(onnx.load_model_from_string(graph)) - floats(model) == 1
    assert floats(model) == 3


def test_the_answer_is_near_the_float_one(graph, model, spec):
    feeds = {key: value.numpy() for key, value in spec.inputs.items()}
    exact = open_session(graph, "float").run(None, feeds)[0]
    rough = open_session(model.SerializeToString(), "int8").run(None, feeds)[0]
    assert 0 < np.linalg.norm(exact - rough) / np.linalg.norm(exact) < 0.03


def test_a_quantized_graph_keeps_its_versions_and_interface(graph, model):
    before = onnx.load_model_from_string(graph)
    assert model.ir_version == before.ir_version == 10
    assert list(model.graph.input) == list(before.graph.input)
    assert list(model.graph.output) == list(before.graph.output)


def test_a_graph_with_nothing_worth_it_is_left_as_it_is():
    graph = export_stage(StageSpec("small", nn.Linear(16, 16), {"x": torch.randn(1, 16)}, ("y",)))
    assert quantize(graph) == graph


def test_quantizing_twice_gives_the_same_bytes(graph, model):
    assert quantize(graph) == model.SerializeToString()
