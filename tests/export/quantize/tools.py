"""Small graphs and comparisons for the tests of the quantizers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevla.policy.engine import open_session
from export.quantize.graph import layer_names


def random_feeds(graph: bytes, count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Normal numbers for every input."""
    rng = np.random.default_rng(seed)
    inputs = onnx.load_model_from_string(graph).graph.input
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inputs}
    return [{n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]


def run(graph: bytes, feed: dict[str, np.ndarray]) -> np.ndarray:
    return open_session(graph, "test").run(None, feed)[0]


def node_of(graph: bytes, layer: str) -> str:
    """The node of a layer, by the name of its module: numbers of nodes change with the exporter."""
    return next(node for node, name in layer_names(graph).items() if name == layer)


def relative_rms(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def build(nodes, inputs, outputs, weights, opset: int = 20) -> bytes:
    """A model from nodes; inputs and outputs name -> shape, weights name -> array."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def linear(rows: int = 4, depth: int = 128, channels: int = 160, rank: int = 2) -> bytes:
    """x @ w + b, then ReLU; w (depth, channels)."""
    rng = np.random.default_rng(1)
    lead = [1] * (rank - 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
        helper.make_node("Add", ["y", "b"], ["z"], "bias"),
        helper.make_node("Relu", ["z"], ["out"], "relu"),
    ]
    weights = {"w": _normal(rng, depth, channels), "b": _normal(rng, channels)}
    return build(nodes, {"x": [*lead, rows, depth]}, {"out": [*lead, rows, channels]}, weights)


def gemm(rows: int = 4, depth: int = 128, channels: int = 160) -> bytes:
    """The same as one Gemm with a transposed weight, without ReLU."""
    rng = np.random.default_rng(1)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["out"], "product", transB=1)]
    weights = {"w": _normal(rng, channels, depth), "b": _normal(rng, channels)}
    return build(nodes, {"x": [rows, depth]}, {"out": [rows, channels]}, weights)


def convolution() -> bytes:
    rng = np.random.default_rng(1)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["out"], "product", kernel_shape=[3, 3])]
    weights = {"w": _normal(rng, 48, 32, 3, 3), "b": _normal(rng, 48)}
    return build(nodes, {"x": [1, 32, 8, 8]}, {"out": [1, 48, 6, 6]}, weights)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)
