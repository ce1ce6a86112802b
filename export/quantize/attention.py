"""Which two products are the halves of one attention: scores (QK) and their use (PV)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx

from export.quantize.graph import initializers, readers, writers

# what may stand between a product and the softmax: scaling, masking, change of layout or type
_BETWEEN = {
    *("Add", "Sub", "Mul", "Div", "Where", "IsNaN", "Cast", "Dropout", "Identity"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "QuantizeLinear", "DequantizeLinear"),
}


@dataclass(frozen=True)
class Attention:
    """Node names of one attention."""

    softmax: str
    scores: str  # QK
    values: str  # PV


def attentions(model: onnx.ModelProto) -> list[Attention]:
    """Every softmax with a product of two activations before it and another after it."""
    write, read, constants = writers(model), readers(model), set(initializers(model))

    def before(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        return (write[name] for name in node.input if name in write)

    def after(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        return (reader for name in node.output for reader in read.get(name, []))

    def of_activations(node: onnx.NodeProto) -> bool:
        return node.op_type == "MatMul" and not any(_from_constant(name, write, constants) for name in node.input)

    found = []
    for node in model.graph.node:
        if node.op_type == "Softmax":
            scores, values = _nearest(node, before, of_activations), _nearest(node, after, of_activations)
            if scores and values:
                found.append(Attention(node.name, scores, values))
    return found


def _from_constant(name: str, write: dict[str, onnx.NodeProto], constants: set[str]) -> bool:
    """Whether a tensor is an initializer, perhaps behind Q/DQ."""
    while name in write and write[name].op_type in ("QuantizeLinear", "DequantizeLinear"):
        name = write[name].input[0]
    return name in constants


def _nearest(
    start: onnx.NodeProto,
    step: Callable[[onnx.NodeProto], Iterable[onnx.NodeProto]],
    wanted: Callable[[onnx.NodeProto], bool],
) -> str:
    """The first wanted node in one direction, through operators that may stand between; "" if there is none."""
    queue, seen = list(step(start)), set[str]()
    while queue:
        node = queue.pop(0)
        if wanted(node):
            return str(node.name)
        if node.op_type in _BETWEEN and node.name not in seen:
            seen.add(node.name)
            queue += step(node)
    return ""
