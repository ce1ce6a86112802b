"""The `dynamic-s8` artifact: for CPUs with VNNI or dot-product instructions.

Weights S8, symmetric, one scale per output channel; activations U8, quantized at run time (so no calibration); products
of two activations, small products and everything that is no product stay in float.

Written by hand, as `onnxruntime.quantization.quantize_dynamic` chooses scales of its own. The operators and
their order are the ones that ONNX Runtime fuses into DynamicQuantizeMatMul and MatMulIntegerToFloat.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.quantize.graph import Product, finish, load, rewrite, split_gemms, weight_of, worth_it
from export.quantize.scales import WeightScales, scale_of, to_int8


def quantize(graph: bytes, keep: frozenset[str] = frozenset(), scales: WeightScales | None = None) -> bytes:
    """The graph with its large matrix products in int8, as it is if there are none.

    Args:
        graph: the raw export.
        keep: nodes that stay in float.
        scales: of the weights, by node; default: computed.

    Raises:
        Usage: `keep` names no product of the graph.
        BadInput: the graph cannot be read or has dynamic shapes.
    """
    model = load(graph)
    names = [p.node for p in worth_it(model, keep)]
    if not names:
        return graph
    split_gemms(model, names)
    chosen = [p for p in worth_it(model, frozenset()) if p.node in names]
    outputs = {node.name: node.output[0] for node in model.graph.node}
    replaced, quantized = {}, set[str]()
    for p in chosen:
        nodes = _integer_product(model, p, outputs[p.node], scales)
        replaced[p.node] = nodes if p.activation in quantized else [_quantize_activation(p.activation), *nodes]
        quantized.add(p.activation)
    rewrite(model, replaced)
    return finish(model)


def _quantize_activation(tensor: str) -> onnx.NodeProto:
    """Once per tensor, whoever reads it."""
    outputs = [f"{tensor}_quantized", f"{tensor}_scale", f"{tensor}_zero_point"]
    return helper.make_node("DynamicQuantizeLinear", [tensor], outputs, f"{tensor}_QuantizeLinear")


def _integer_product(
    model: onnx.ModelProto, p: Product, output: str, scales: WeightScales | None
) -> list[onnx.NodeProto]:
    """x_u8 @ w_s8 in int32, then to float by both scales."""
    weight = weight_of(model, p.weight)
    scale = scale_of(p, weight, scales)
    x, w = p.activation, f"{p.node}_weight"
    stored = {
        f"{w}_quantized": to_int8(weight, scale, p.axis),
        f"{w}_scale": scale,
        f"{w}_zero_point": np.zeros(p.channels, np.int8),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    inputs = [f"{x}_quantized", f"{w}_quantized", f"{x}_zero_point", f"{w}_zero_point"]
    both, integer, cast = f"{p.node}_scale", f"{p.node}_int32", f"{p.node}_float"
    return [
        helper.make_node("Mul", [f"{x}_scale", f"{w}_scale"], [both], f"{p.node}_quant_scales_mul"),
        helper.make_node("MatMulInteger", inputs, [integer], f"{p.node}_quant"),
        helper.make_node("Cast", [integer], [cast], f"{p.node}_quant_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [cast, both], [output], f"{p.node}_quant_output_scale_mul"),
    ]
