"""QuantizeLinear / DequantizeLinear nodes: the small parts that both static artifacts are built from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def activation_pair(
    model: onnx.ModelProto, tensor: str, prefix: str, scale: float, zero: np.int8 | np.uint8
) -> tuple[list[onnx.NodeProto], str]:
    """Q and DQ of one tensor with one scale; the nodes and the tensor that comes out."""
    return _pair(model, tensor, prefix, np.float32(scale), zero, {})


def weight_pair(
    model: onnx.ModelProto, weight: str, prefix: str, scale: np.ndarray[Any, Any], axis: int
) -> tuple[list[onnx.NodeProto], str]:
    """Q and DQ of a float initializer, a scale per channel of `axis` (>= 0), zero-point 0."""
    return _pair(model, weight, prefix, scale, np.zeros(len(scale), np.int8), {"axis": axis})


def _pair(
    model: onnx.ModelProto, tensor: str, prefix: str, scale: Any, zero: Any, attributes: dict[str, int]
) -> tuple[list[onnx.NodeProto], str]:
    scale_name, zero_name = store(model, f"{prefix}_scale", scale), store(model, f"{prefix}_zero_point", zero)
    q, dq = f"{prefix}_quantized", f"{prefix}_dequantized"
    nodes = [
        helper.make_node("QuantizeLinear", [tensor, scale_name, zero_name], [q], f"{prefix}_Q", **attributes),
        helper.make_node("DequantizeLinear", [q, scale_name, zero_name], [dq], f"{prefix}_DQ", **attributes),
    ]
    return nodes, dq


def store(model: onnx.ModelProto, name: str, value: Any) -> str:
    """Adds an initializer; returns its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name
