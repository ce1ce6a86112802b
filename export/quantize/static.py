"""The `static-qdq` artifact for CPUs: activations U8 with calibrated ranges, weights S8, never S8S8.

S8 activations halve the speed on x86 (0.85x of FP32 was measured): they belong to the `trt` artifact. Only matrix
products with a constant weight are quantized; convolutions became slower in int8 and stay in float.

ONNX Runtime fuses MatMul + Add into Gemm before it looks for Q/DQ, and has no integer Gemm with a float output: the
weight would be de-quantized at every run. So a bias is subtracted with its sign turned, which is exact and not fused.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.quantize.calibrate import Calibration, collect
from export.quantize.graph import (
    Product,
    finish,
    initializers,
    load,
    readers,
    rewrite,
    split_gemms,
    weight_of,
    worth_it,
)
from export.quantize.pairs import activation_pair, store
from export.quantize.scales import WeightScales, scale_of, to_int8


def quantize(
    graph: bytes,
    calibration: Calibration,
    keep: frozenset[str] = frozenset(),
    scales: WeightScales | None = None,
    tail: float = 0.0,
) -> bytes:
    """The graph with Q/DQ around its large matrix products, as it is if there are none.

    `tail`: see `export.quantize.trt.quantize`.

    Raises:
        Usage: `keep` names no product of the graph.
        BadInput: the graph or the calibration is unusable.
    """
    model = load(graph)
    names = [p.node for p in worth_it(model, keep)]
    if not names:
        return graph
    split_gemms(model, names)
    chosen = [p for p in worth_it(model, frozenset()) if p.node in names]
    stats = collect(graph, dict.fromkeys(p.activation for p in chosen), calibration)
    replaced: dict[str, list[onnx.NodeProto]] = {}
    quantized: dict[str, str] = {}
    for p in chosen:
        nodes = (
            []
            if p.activation in quantized
            else _quantize_activation(model, p.activation, stats[p.activation].unsigned_scale(tail), quantized)
        )
        replaced[p.node] = [*nodes, *_product(model, p, quantized[p.activation], scales)]
    replaced |= _negated_biases(model, set(names))
    rewrite(model, replaced)
    return finish(model)


def _quantize_activation(
    model: onnx.ModelProto, tensor: str, grid: tuple[float, int], quantized: dict[str, str]
) -> list[onnx.NodeProto]:
    """Once per tensor, whoever reads it."""
    scale, zero = grid
    nodes, quantized[tensor] = activation_pair(model, tensor, tensor, scale, np.uint8(zero))
    return nodes


def _product(model: onnx.ModelProto, p: Product, activation: str, scales: WeightScales | None) -> list[onnx.NodeProto]:
    """The MatMul between a de-quantized activation and a de-quantized int8 weight."""
    weight = weight_of(model, p.weight)
    scale = scale_of(p, weight, scales)
    axis = len(p.shape) - 1
    inputs = [
        store(model, f"{p.node}_weight_quantized", to_int8(weight, scale, p.axis)),
        store(model, f"{p.node}_weight_scale", scale),
        store(model, f"{p.node}_weight_zero_point", np.zeros(p.channels, np.int8)),
    ]
    float_weight = f"{p.node}_weight_dequantized"
    output = next(node.output[0] for node in model.graph.node if node.name == p.node)
    return [
        helper.make_node("DequantizeLinear", inputs, [float_weight], f"{p.node}_weight_DQ", axis=axis),
        helper.make_node("MatMul", [activation, float_weight], [output], p.node),
    ]


def _negated_biases(model: onnx.ModelProto, names: set[str]) -> dict[str, list[onnx.NodeProto]]:
    """product + b as product - (-b), for every constant b added right after one of these products."""
    read, constants = readers(model), initializers(model)
    replaced = {}
    for output in [node.output[0] for node in model.graph.node if node.name in names]:
        for add in read.get(output, []):
            bias = next((name for name in add.input if name in constants), "")
            if add.op_type == "Add" and bias:
                negated = store(model, f"{add.name}_negated", -numpy_helper.to_array(constants[bias]))
                replaced[add.name] = [helper.make_node("Sub", [output, negated], list(add.output), add.name)]
    return replaced
