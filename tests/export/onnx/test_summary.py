"""The summary of a graph: counted by hand on a small one, int8 read back from what ONNX Runtime runs."""

import numpy as np
import pytest
import torch
from torch import nn

from export.onnx.stages import StageSpec, export_stage
from export.onnx.summary import line, summary
from export.quantize.artifact import quantize


def graph():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 8))
    return export_stage(StageSpec("net", net, {"x": torch.randn(1, 4, 128)}, ("y",)))


def test_operators_weights_and_multiply_adds_are_counted():
    found = summary(graph())
    assert found["operators"]["MatMul"] == 2
    assert found["operators"]["Relu"] == 1
    assert found["weights_bytes"] == 4 * (128 * 256 + 256 + 256 * 8 + 8)
    assert found["multiply_adds"] == 4 * (128 * 256 + 256 * 8)
    assert (found["inputs"], found["outputs"]) == ({"x": [1, 4, 128]}, {"y": [1, 4, 8]})
    assert (found["opset"], found["int8_share"]) == (20, 0.0)


def test_the_share_in_int8_is_that_of_the_products_that_run_so():
    found = summary(quantize(graph(), "dynamic-s8"))
    assert abs(found["int8_share"] - 128 * 256 / (128 * 256 + 256 * 8)) < 1e-6
    assert line("net", found)[-1] == "94 %"


@pytest.mark.parametrize("kind", ["dynamic-s8", "static-qdq", "nbits8"])
def test_a_quantized_graph_costs_as_many_multiply_adds(kind):
    calibration = [{"x": np.random.default_rng(0).normal(size=(1, 4, 128)).astype(np.float32)}]
    made = quantize(graph(), kind, calibration=calibration if kind == "static-qdq" else None)
    assert summary(made)["multiply_adds"] == 4 * (128 * 256 + 256 * 8)
