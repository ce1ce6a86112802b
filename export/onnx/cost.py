"""What one pass through a graph costs, from its inferred shapes."""

from __future__ import annotations

import math

import onnx


def multiply_adds(graph: bytes) -> int:
    """Multiply-adds of one pass: matrix products (weights and activations alike) and convolutions."""
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(graph))
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    return sum(math.prod(shapes[node.output[0]]) * _inner(node, shapes) for node in model.graph.node)


def _inner(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Multiply-adds behind each output element; 0 for anything but products and convolutions."""
    if node.op_type in ("MatMul", "Gemm"):
        return shapes[node.input[0]][-1]
    if node.op_type == "Conv":
        return math.prod(shapes[node.input[1]][1:])
    return 0
