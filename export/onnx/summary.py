"""What a graph is made of, in numbers: for people and for the evidence in a bundle."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx

from export.quantize.graph import load, multiply_adds
from export.quantize.readback import executed, int8_share

_INT8 = {"MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"}
_OWN_PRODUCTS = {"MatMulInteger", "MatMulNBits"}


def summary(graph: bytes) -> dict[str, Any]:
    """Operators with their counts, weights in bytes, multiply-adds of a pass, and the share of those that ONNX Runtime
    runs in int8 after its own optimisation; opset, IR and the static shapes of inputs and outputs."""
    model = load(graph)
    kinds = {node.op_type for node in model.graph.node}
    ran = executed(graph) if kinds & _OWN_PRODUCTS else None  # whose shapes are known only where they run
    adds = sum(node.multiply_adds for node in ran) if ran is not None else sum(multiply_adds(model).values())
    return {
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "weights_bytes": sum(_bytes(tensor) for tensor in model.graph.initializer),
        "multiply_adds": adds,
        "int8_share": int8_share(graph) if _INT8 & kinds else 0.0,
        "opset": next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        "ir_version": model.ir_version,
        "inputs": {value.name: _shape(value) for value in model.graph.input},
        "outputs": {value.name: _shape(value) for value in model.graph.output},
    }


def line(name: str, found: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """A row for people: graph, operators, weights, multiply-adds, int8."""
    most = ", ".join(f"{count} {kind}" for kind, count in list(found["operators"].items())[:4])
    total = sum(found["operators"].values())
    size, adds = found["weights_bytes"] / 1e6, found["multiply_adds"] / 1e6
    return name, f"{total}: {most}, ...", f"{size:.2f} MB", f"{adds:.1f} M", f"{100 * found['int8_share']:.0f} %"


def _bytes(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data) or int(onnx.numpy_helper.to_array(tensor).nbytes)


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
