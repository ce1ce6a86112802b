"""The `trt` artifact: static, symmetric int8 in the form that TensorRT reads. Form checked, never built here.

Q and DQ stand on both inputs of every quantized MatMul and Conv. A weight stays a float initializer behind its own
Q/DQ pair (not an int8 initializer behind a DQ: that is one form of two that TensorRT reads, and the one that optimum's
TensorRT preset asks for). Each consumer has a DQ of its own. Weights have a scale per output channel, activations one
per tensor, zero-points are 0, biases stay FP32 (TensorRT rejects int32 ones: onnxruntime #14229). QK and PV of an
attention are quantized both or neither. Nothing else is quantized.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from edgevla.errors import Refused, explain
from export.quantize.attention import attentions
from export.quantize.calibrate import Calibration, collect
from export.quantize.graph import Product, finish, load, rewrite, split_gemms, weight_of, worth_it
from export.quantize.pairs import activation_pair, weight_pair
from export.quantize.scales import WeightScales, scale_of

LABEL = "form checked, never built by TensorRT here"


def quantize(
    graph: bytes,
    calibration: Calibration,
    keep: frozenset[str] = frozenset(),
    scales: WeightScales | None = None,
    tail: float = 0.0,
) -> bytes:
    """The graph with Q/DQ pairs, as it is if there is nothing to quantize.

    `tail` is the share of an activation's values that its range cuts off on each side. None, as a measurement says: in
    the trained reference student the rare large values matter, and cutting 1e-5 of them raised the error.

    Raises:
        Usage: `keep` names no product of the graph.
        Refused: `keep` names one half of an attention.
        BadInput: the graph or the calibration is unusable.
    """
    model = load(graph)
    names = [p.node for p in worth_it(model, keep, convolutions=True)]
    halves = _attention_products(model, keep)
    if not names and not halves:
        return graph
    split_gemms(model, names)
    chosen = {p.node: p for p in worth_it(model, frozenset(), convolutions=True) if p.node in names}
    nodes = [node for node in model.graph.node if node.name in chosen or node.name in halves]
    read = [node.input[i] for node in nodes for i in ((0,) if node.name in chosen else (0, 1))]
    stats = collect(graph, dict.fromkeys(read), calibration)
    grids = {name: found.symmetric_scale(tail) for name, found in stats.items()}
    rewrite(model, {node.name: _quantized(model, node, chosen.get(node.name), grids, scales) for node in nodes})
    return finish(model)


def _attention_products(model: onnx.ModelProto, keep: frozenset[str]) -> set[str]:
    """Both products of every attention that is not kept."""
    halves: set[str] = set()
    for a in attentions(model):
        kept = sorted({a.scores, a.values} & keep)
        if len(kept) == 1:
            todo = f"keep both {a.scores} and {a.values}, or none"
            raise Refused(explain(f"attention at {a.softmax}", "QK and PV both in int8, or none", f"{kept} kept", todo))
        halves |= {a.scores, a.values} - keep
    return halves


def _quantized(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    product: Product | None,
    grids: Mapping[str, float],
    scales: WeightScales | None,
) -> list[onnx.NodeProto]:
    """The pairs of both inputs and the product that reads them."""
    nodes: list[onnx.NodeProto] = []
    changed = onnx.NodeProto.FromString(node.SerializeToString())
    for position in (0, 1):
        tensor, prefix = node.input[position], f"{node.name}_input{position}"
        if position == 1 and product is not None:
            scale = scale_of(product, weight_of(model, product.weight), scales)
            axis = product.axis % len(product.shape)
            pair, changed.input[1] = weight_pair(model, tensor, prefix, scale, axis)
        else:
            pair, changed.input[position] = activation_pair(model, tensor, prefix, grids[tensor], np.int8(0))
        nodes += pair
    return [*nodes, changed]
