"""One pass of a graph, operator by operator, from ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from bench.roofline.classes import PRODUCTS, Operator
from edgevla.errors import Unsound, explain
from edgevla.telemetry.interleaved import measure

WARMUP = 20
CHAIN = 100  # additions to calibrate on
TRIM = 0.1  # share of the slowest samples of a node that is left out: interrupts
_BYTES = {"float": 4, "float16": 2, "int8": 1, "uint8": 1, "int32": 4, "int64": 8, "bool": 1, "double": 8}
_INTEGER_PRODUCTS = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger", "QLinearMatMul", "QGemm")
_CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "QLinearConv")
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Pass:
    """One pass of a graph: its operators, and the median without a profiler."""

    operators: list[Operator]
    wall_ms: float


def profile(graph: bytes, feeds: Mapping[str, Array], rounds: int, recorder_us: float | None = None) -> Pass:
    """The operators of a graph by ONNX Runtime's profiler, called in turn with a session that has none.

    recorder_us: what the profiler itself adds to the time of each operator (`recorder_cost_us`, its default).
    """
    cost_us = recorder_cost_us() if recorder_us is None else recorder_us
    events, optimized, plain_us = _record(graph, feeds, rounds)
    return Pass(operators(events, optimized, cost_us, WARMUP), plain_us / 1e3)


def recorder_cost_us(rounds: int = 100) -> float:
    """What the profiler adds to an operator: in a chain of additions of one number, its time above that of the chain.

    A little too low, by what the executor spends between two of them.
    """
    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info(f"x{CHAIN}", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Add", [f"x{i}", f"x{i}"], [f"x{i + 1}"], f"add{i}") for i in range(CHAIN)]
    graph = helper.make_graph(nodes, "chain", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    events, optimized, plain_us = _record(model.SerializeToString(), {"x0": np.zeros(1, np.float32)}, rounds)
    mean_us = float(np.mean([operator.us for operator in operators(events, optimized, 0.0, WARMUP)]))
    return max(0.0, mean_us - plain_us / CHAIN)


def _record(graph: bytes, feeds: Mapping[str, Array], rounds: int) -> tuple[list[dict[str, Any]], Any, float]:
    """Events of the profiler, the optimized graph, and the median of a pass without the profiler in us."""
    plain = onnxruntime.InferenceSession(graph, _options(), providers=["CPUExecutionProvider"])
    with tempfile.TemporaryDirectory(prefix="roofline.") as folder:
        options = _options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        watched = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        calls = {"plain": lambda: plain.run(None, dict(feeds)), "watched": lambda: watched.run(None, dict(feeds))}
        ns = measure(calls, rounds, warmup=WARMUP).ns["plain"]
        events = json.loads(Path(watched.end_profiling()).read_text())
        optimized = onnx.load(options.optimized_model_filepath).graph
    return events, optimized, float(np.median(ns)) / 1e3


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def operators(events: list[dict[str, Any]], graph: onnx.GraphProto, cost_us: float, skip: int = 0) -> list[Operator]:
    """Events of a profile as operators.

    Args:
        events: of the profile file.
        graph: the optimized one, which says what is a constant.
        cost_us: of recording an operator, taken off each.
        skip: first passes that are not counted.

    Raises:
        Unsound: the profile holds no operator.
    """
    nodes = {node.name: node for node in graph.node}
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    series: dict[str, list[float]] = {}
    shapes: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            series.setdefault(name, []).append(event["dur"] + 0.5)  # the file has whole microseconds, cut off
            shapes[name] = event["args"]
    if not series:
        raise Unsound(explain("profile", "operators with their times", "none", "check the ONNX Runtime version"))
    return [
        _operator(nodes.get(name), constants, shapes[name], max(0.0, _trimmed(values[skip:]) - cost_us))
        for name, values in series.items()
    ]


def _trimmed(values: list[float]) -> float:
    ordered = sorted(values)
    return float(np.mean(ordered[: max(1, math.ceil(len(ordered) * (1 - TRIM)))]))


def _operator(
    node: onnx.NodeProto | None, constants: Mapping[str, tuple[int, ...]], args: Mapping[str, Any], us: float
) -> Operator:
    op = args["op_name"]
    inputs, outputs = _tensors(args["input_type_shape"]), _tensors(args["output_type_shape"])
    second = node.input[1] if node is not None and len(node.input) > 1 else ""
    macs = _multiply_adds(op, inputs, outputs, constants.get(second, ()))
    moved = sum(_BYTES.get(kind, 4) * math.prod(shape) for kind, shape in (*inputs, *outputs))
    return Operator(op, second in constants, us, macs, moved)


def _tensors(shapes: list[dict[str, list[int]]]) -> list[tuple[str, list[int]]]:
    return [(kind, shape) for entry in shapes for kind, shape in entry.items()]


def _multiply_adds(
    op: str, inputs: list[tuple[str, list[int]]], outputs: list[tuple[str, list[int]]], weight: tuple[int, ...]
) -> int:
    """From the shapes that ran; a packed weight is no input any more, so the depth comes from the activation."""
    if not inputs or not outputs:
        return 0
    elements = math.prod(outputs[0][1])
    if op in (*PRODUCTS, *_INTEGER_PRODUCTS, "MatMulNBits"):
        return elements * inputs[0][1][-1]
    if op in _CONVOLUTIONS:
        return elements * math.prod(weight[1:])
    return 0
