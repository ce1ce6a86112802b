"""Does a graph have the form that the `trt` artifact promises? Each broken rule is named with its node.

    python -m export.quantize.check_trt FILE

Proves the form only: no engine is built here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgevla.errors import BadInput, EdgevlaError, Refused, explain
from export.quantize.attention import attentions
from export.quantize.graph import PRODUCTS, attribute, initializers, load, output_axis, readers, writers

RULES = {
    "some-int8": "at least one product is quantized",
    "both-inputs": "a quantized product has Q/DQ on both inputs",
    "pair": "a DQ reads a Q, with the same scale, zero-point and axis",
    "float-weight": "a weight is a float initializer behind Q/DQ",
    "per-channel": "a weight has one scale per channel of the output axis",
    "per-tensor": "an activation has one scale",
    "symmetric": "scales are constants above 0, zero-points int8 0",
    "one-consumer": "a DQ has exactly one reader",
    "only-products": "a DQ is read by the data inputs of a MatMul, Gemm or Conv only, no bias",
    "attention": "QK and PV of an attention are quantized both or neither",
    "plain": "standard operators only, none that quantizes at run time",
    "versions": "opset <= 20, IR <= 10",
}
_FOREIGN = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}


@dataclass(frozen=True)
class Violation:
    """One rule that one node breaks."""

    rule: str
    node: str
    got: str

    def __str__(self) -> str:
        return f"{self.node}: {RULES[self.rule]} [{self.rule}]: {self.got}"


class _Graph:
    """The graph with its look-up tables."""

    def __init__(self, graph: bytes) -> None:
        self.model = load(graph)
        self.write, self.read, self.constants = writers(self.model), readers(self.model), initializers(self.model)
        self.outputs = {value.name for value in self.model.graph.output}

    def nodes(self, *ops: str) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if node.op_type in ops]

    def from_dq(self, tensor: str) -> bool:
        return tensor in self.write and self.write[tensor].op_type == "DequantizeLinear"

    def quantized(self, node: onnx.NodeProto) -> bool:
        return any(self.from_dq(name) for name in node.input[:2])


def violations(graph: bytes) -> list[Violation]:
    """Every broken rule, in the order of RULES' subjects: graph, products, pairs, attention.

    Raises:
        BadInput: no ONNX model, or dynamic shapes.
    """
    g = _Graph(graph)
    return [*_whole(g), *_products(g), *_dequantizers(g), *_quantizers(g), *_attention(g)]


def require_trt_form(graph: bytes) -> None:
    """Raises Refused, naming the first broken rules."""
    broken = violations(graph)
    if broken:
        got = "; ".join(map(str, broken[:5])) + (f"; and {len(broken) - 5} more" if len(broken) > 5 else "")
        raise Refused(explain("form for TensorRT", f"all {len(RULES)} rules", got, "quantize with kind trt"))


def _whole(g: _Graph) -> Iterator[Violation]:
    if not any(g.quantized(node) for node in g.nodes(*PRODUCTS)):
        yield Violation("some-int8", "graph", "none")
    for node in g.model.graph.node:
        if node.op_type in _FOREIGN or node.domain not in ("", "ai.onnx"):
            yield Violation("plain", node.name, f"{node.domain or 'ai.onnx'}.{node.op_type}")
    opset = max(entry.version for entry in g.model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > 20 or g.model.ir_version > 10:
        yield Violation("versions", "graph", f"opset {opset}, IR {g.model.ir_version}")


def _products(g: _Graph) -> Iterator[Violation]:
    for node in g.nodes(*PRODUCTS):
        for position, tensor in enumerate(node.input[:2]):
            if g.quantized(node) and not g.from_dq(tensor):
                yield Violation("both-inputs", node.name, f"{tensor} is float")
            elif g.from_dq(tensor):
                yield from _grid(g, node, g.write[tensor], position)


def _grid(g: _Graph, node: onnx.NodeProto, dq: onnx.NodeProto, position: int) -> Iterator[Violation]:
    """Granularity: a weight per output channel, an activation per tensor."""
    source = g.write.get(dq.input[0])
    tensor = source.input[0] if source is not None else dq.input[0]
    scale = g.constants.get(dq.input[1])
    if scale is None:
        return  # told by `symmetric`
    if position == 1 and tensor in g.constants:
        shape = list(g.constants[tensor].dims)
        wanted = output_axis(node) % len(shape)
        axis = attribute(dq, "axis", 1) % len(shape)
        if list(scale.dims) != [shape[wanted]] or axis != wanted:
            expected = f"scale {list(scale.dims)} on axis {axis} of {shape}"
            yield Violation("per-channel", node.name, expected)
        if g.constants[tensor].data_type != TensorProto.FLOAT:
            yield Violation("float-weight", node.name, f"{tensor} is stored quantized")
    elif int(np.prod(list(scale.dims))) != 1:
        yield Violation("per-tensor", node.name, f"{tensor} has {list(scale.dims)} scales")


def _dequantizers(g: _Graph) -> Iterator[Violation]:
    for dq in g.nodes("DequantizeLinear"):
        source = g.write.get(dq.input[0])
        if source is None or source.op_type != "QuantizeLinear":
            yield Violation("pair", dq.name, f"reads {source.op_type if source else 'a constant'} {dq.input[0]}")
        elif not _same_grid(g, source, dq):
            yield Violation("pair", dq.name, f"its grid is not that of {source.name}")
        consumers = [
            (node, i) for node in g.read.get(dq.output[0], []) for i, t in enumerate(node.input) if t == dq.output[0]
        ]
        if len(consumers) != 1 or dq.output[0] in g.outputs:
            yield Violation("one-consumer", dq.name, f"{len(consumers)} readers")
        for node, position in consumers:
            if node.op_type not in PRODUCTS or position > 1:
                before = g.write.get(source.input[0]) if source is not None else None
                origin = f" (of {before.op_type})" if before is not None else ""
                yield Violation(
                    "only-products", dq.name, f"read by input {position} of {node.op_type} {node.name}{origin}"
                )


def _same_grid(g: _Graph, q: onnx.NodeProto, dq: onnx.NodeProto) -> bool:
    if attribute(q, "axis", 1) != attribute(dq, "axis", 1):
        return False
    return all(a == b or _equal(g, a, b) for a, b in zip(q.input[1:], dq.input[1:], strict=False))


def _equal(g: _Graph, first: str, second: str) -> bool:
    both = [g.constants.get(name) for name in (first, second)]
    return all(t is not None for t in both) and np.array_equal(*(numpy_helper.to_array(t) for t in both if t))


def _quantizers(g: _Graph) -> Iterator[Violation]:
    for node in g.nodes("QuantizeLinear", "DequantizeLinear"):
        scale = g.constants.get(node.input[1])
        if scale is None or not (numpy_helper.to_array(scale) > 0).all():
            yield Violation("symmetric", node.name, f"scale {node.input[1]}")
        zero = g.constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            yield Violation("symmetric", node.name, f"zero-point {node.input[2] if len(node.input) > 2 else 'uint8'}")


def _attention(g: _Graph) -> Iterator[Violation]:
    by_name = {node.name: node for node in g.model.graph.node}
    for a in attentions(g.model):
        states = [g.quantized(by_name[name]) for name in (a.scores, a.values)]
        if len(set(states)) > 1:
            half = "QK only" if states[0] else "PV only"
            yield Violation("attention", a.softmax, f"{half} ({a.scores}, {a.values})")


def main(arguments: list[str]) -> int:
    """Prints what is broken; the exit code is 0 for a graph of that form, 1 for another, 2 usage, 4 unreadable."""
    if len(arguments) != 1:
        print("usage: python -m export.quantize.check_trt FILE")
        return 2
    path = Path(arguments[0])
    try:
        broken = violations(_read(path))
    except EdgevlaError as error:
        print(error)
        return error.exit_code
    print(
        "\n".join(map(str, broken))
        or f"{path.name}: {len(RULES)} rules hold; form checked, never built by TensorRT here"
    )
    return 1 if broken else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(explain("graph", "a readable file", str(error), "give the path of an ONNX file")) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
