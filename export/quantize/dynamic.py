"""The `cpu` artifact: dynamic int8 for CPUs with VNNI or dot-product instructions.

Weights S8, symmetric, one scale per output channel; activations quantized at run time (so no calibration); products of
two activations, small products and everything that is no product stay in float.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

MIN_SIDE = 128  # a weight with a shorter side saves less than quantizing its activation costs


def quantize(graph: bytes) -> bytes:
    """The graph with its large matrix products in int8.

    The raw export goes in: optimising it first fuses MatMul + Add into Gemm, and then the quantizer fails on shapes.
    """
    model = onnx.load_model_from_string(graph)
    chosen = _chosen(model)
    if not chosen:
        return graph
    logging.getLogger().addFilter(_not_a_hint)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(graph)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=chosen,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
        quantized = onnx.load(target)
    quantized.ir_version = model.ir_version
    onnx.checker.check_model(quantized)
    return bytes(quantized.SerializeToString())


def _not_a_hint(record: logging.LogRecord) -> bool:
    """Drops ONNX Runtime's advice to pre-process, which breaks this quantizer (see `quantize`)."""
    return "pre-processing before quantization" not in record.getMessage()


def _chosen(model: onnx.ModelProto) -> list[str]:
    """Names of the products worth it: constant weight, both sides at least MIN_SIDE."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and min(shapes.get(node.input[1], (0,))) >= MIN_SIDE
    ]
