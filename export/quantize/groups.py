"""Where a factor per channel can be moved from an activation into weights without changing what the graph computes.

The products that read a tensor take the factor on their input rows; its inverse goes into whatever made the tensor: the
scale and bias of a LayerNorm, the constant of a Mul (an RMSNorm ends in one), or the linear layer before, through ReLU
and through an attention (values pass it channel by channel).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from export.quantize.graph import Product, attribute, initializers, products, readers, shapes_of, writers

_SWAP = [0, 2, 1, 3]  # (B, N, heads, d) <-> (B, heads, N, d)


@dataclass(frozen=True)
class Group:
    """One tensor (..., C), what can take 1 / factor, and the products that take the factor."""

    tensor: str
    makers: tuple[tuple[str, int], ...]  # (node, which of its inputs): initializers whose last axis is C
    products: tuple[Product, ...]


def find_groups(model: onnx.ModelProto) -> list[Group]:
    """Every tensor whose readers are all MatMuls with a constant weight and whose maker can take a factor."""
    by_tensor: dict[str, list[Product]] = {}
    for p in products(model):
        if p.op == "MatMul":
            by_tensor.setdefault(p.activation, []).append(p)
    search, outputs = _Search(model), {value.name for value in model.graph.output}
    groups = []
    for tensor, found in by_tensor.items():
        makers = search.makers(tensor)
        if makers and tensor not in outputs and len(search.read[tensor]) == len(found):
            groups.append(Group(tensor, tuple(makers), tuple(found)))
    return groups


class _Search:
    """Walks up from a tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.write, self.read, self.constants = writers(model), readers(model), initializers(model)
        self.shapes = shapes_of(model)

    def makers(self, tensor: str) -> list[tuple[str, int]]:
        """(node, input) pairs that can take the inverse factor; none if there are none."""
        node = self.write.get(tensor)
        if node is None:
            return []
        if node.op_type == "LayerNormalization":
            return self._norm(node)
        if node.op_type == "Mul":
            return self._vector(node, tensor)
        return self._linear(tensor)

    def _norm(self, node: onnx.NodeProto) -> list[tuple[str, int]]:
        last = len(self.shapes.get(node.input[0], ())) - 1
        if attribute(node, "axis", -1) not in (-1, last) or any(n not in self.constants for n in node.input[1:]):
            return []
        return [(node.name, i) for i, name in enumerate(node.input) if i and name]

    def _vector(self, node: onnx.NodeProto, tensor: str) -> list[tuple[str, int]]:
        width = self.shapes[tensor][-1]
        constant = [n in self.constants and list(self.constants[n].dims) == [width] for n in node.input]
        return [(node.name, constant.index(True))] if any(constant) else []

    def _linear(self, tensor: str) -> list[tuple[str, int]]:
        """The linear layer before, possibly through ReLU or through the values of an attention."""
        node = self._only(tensor, "Relu")
        if node is not None:
            return self._weights(node.input[0])
        return self._weights(self._values(tensor))

    def _weights(self, tensor: str) -> list[tuple[str, int]]:
        """MatMul with a constant weight, and the bias added after it."""
        found: list[tuple[str, int]] = []
        add = self._only(tensor, "Add")
        if add is not None:
            bias = [n in self.constants and len(self.constants[n].dims) == 1 for n in add.input]
            if not any(bias):
                return []
            found = [(add.name, bias.index(True))]
            tensor = add.input[1 - bias.index(True)]
        product = self._only(tensor, "MatMul")
        if product is None or product.input[1] not in self.constants:
            return []
        return [*found, (product.name, 1)]

    def _values(self, tensor: str) -> str:
        """What an attention whose result is this tensor (B, N, C) reads as values (B, M, C); "" if it is none."""
        merged = self._only(tensor, "Reshape")
        moved = self._swapped(merged.input[0]) if merged is not None else ""
        product = self._only(moved, "MatMul")
        split = self._swapped(product.input[1]) if product is not None else ""
        reshape = self._only(split, "Reshape")
        if merged is None or reshape is None:
            return ""
        channels, heads = self.shapes[tensor][-1], self.shapes[split][-2:]
        same = self.shapes[reshape.input[0]][-1] == channels == heads[0] * heads[1]
        return str(reshape.input[0]) if same and self.shapes[merged.input[0]][-2:] == heads else ""

    def _swapped(self, tensor: str) -> str:
        node = self._only(tensor, "Transpose")
        return str(node.input[0]) if node is not None and list(attribute(node, "perm", [])) == _SWAP else ""

    def _only(self, tensor: str, op: str) -> onnx.NodeProto | None:
        """The node of this type that makes a tensor which one node alone reads."""
        node = self.write.get(tensor)
        return node if node is not None and node.op_type == op and len(self.read.get(tensor, ())) == 1 else None
