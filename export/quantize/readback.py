"""What ONNX Runtime really runs: the operators left after its optimisation, with their types and shapes.

A quantized graph is only a wish. Fusions may put a product back into float and de-quantize its weight at every run; so
the graph runs once, on zeros, with the profiler on, and the profile is read back.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgevla.errors import BadInput, explain
from export.quantize.graph import load

INT8_PRODUCTS = {
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "QLinearMatMul",
    "QGemm",
    "ConvInteger",
    "QLinearConv",
}
FLOAT_PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv", "NhwcFusedConv", "MatMulNBits"}
_CONVOLUTIONS = {"ConvInteger": 1, "QLinearConv": 3, "Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1}  # input: weight
_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16}


@dataclass(frozen=True)
class Executed:
    """One operator as it ran."""

    node: str
    op: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]  # type and shape
    output: tuple[int, ...]
    provider: str

    @property
    def multiply_adds(self) -> int:
        """Of matrix products and convolutions; 0 for anything else."""
        if self.op in _CONVOLUTIONS:
            return math.prod(self.output) * math.prod(self.inputs[_CONVOLUTIONS[self.op]][1][1:])
        if self.op in INT8_PRODUCTS | FLOAT_PRODUCTS:
            rows = self.output[-2] if len(self.output) > 1 else 1
            return math.prod(self.output) * (math.prod(self.inputs[0][1][-2:]) // rows)
        return 0


def executed(graph: bytes) -> list[Executed]:
    """The operators of one run on zeros, in order, on one thread of the CPU.

    Raises:
        BadInput: the graph has dynamic shapes or does not run.
    """
    feeds = _zeros(load(graph))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "run"))
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            session.run(None, feeds)
        except Exception as error:  # what ONNX Runtime raises has no base class of its own
            raise BadInput(explain("graph", "one that runs", str(error)[:300], "export it again")) from error
        events = json.loads(Path(session.end_profiling()).read_text())
    return [_read(event) for event in events if event.get("name", "").endswith("_kernel_time")]


def int8_share(graph: bytes) -> float:
    """Share of the multiply-adds of products and convolutions that runs in int8; 0 where there are none."""
    ran = executed(graph)
    total = sum(e.multiply_adds for e in ran)
    return sum(e.multiply_adds for e in ran if e.op in INT8_PRODUCTS) / total if total else 0.0


def dequantized_weights(graph: bytes) -> list[str]:
    """Nodes that turn an int8 weight (a scale per channel) into float at every run."""
    return [e.node for e in executed(graph) if e.op == "DequantizeLinear" and math.prod(e.inputs[1][1]) > 1]


def _read(event: dict[str, Any]) -> Executed:
    arguments = event["args"]
    inputs = tuple((kind, tuple(s)) for entry in arguments["input_type_shape"] for kind, s in entry.items())
    outputs = [tuple(s) for entry in arguments["output_type_shape"] for s in entry.values()]
    node = event["name"].removesuffix("_kernel_time")
    return Executed(node, arguments["op_name"], inputs, outputs[0] if outputs else (), arguments["provider"])


def _zeros(model: onnx.ModelProto) -> dict[str, Any]:
    weights = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, Any] = {}
    for value in model.graph.input:
        if value.name not in weights:
            tensor = value.type.tensor_type
            feeds[value.name] = np.zeros([d.dim_value for d in tensor.shape.dim], _DTYPES[tensor.elem_type])
    return feeds
