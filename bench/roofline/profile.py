"""One pass of a graph, operator by operator, from ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
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
class Constant:
    """A weight of a graph. `width`: bytes an element."""

    shape: tuple[int, ...]
    width: int


@dataclass(frozen=True)
class Arena:
    """Memory of one session by its own statistics, largest seen."""

    held_bytes: int  # taken from the system and kept
    in_use_bytes: int  # of that, by weights and activations


@dataclass(frozen=True)
class Pass:
    """One pass of a graph: its operators, the median without a profiler, and what its arena held."""

    operators: list[Operator]
    wall_ms: float
    arena: Arena | None = None  # None: this ONNX Runtime does not say
    origins: Mapping[str, str] = field(default_factory=dict)  # name of an operator -> node of the graph as given


def profile(graph: bytes, feeds: Mapping[str, Array], rounds: int, recorder_us: float | None = None) -> Pass:
    """The operators of a graph by ONNX Runtime's profiler, called in turn with a session that has none.

    recorder_us: what the profiler itself adds to the time of each operator (`recorder_cost_us`, its default).
    """
    cost_us = recorder_cost_us() if recorder_us is None else recorder_us
    graph = named(graph)
    events, optimized, plain_us = _record(graph, feeds, rounds)
    origins = origins_of(optimized, onnx.load_model_from_string(graph).graph)
    return Pass(operators(events, optimized, cost_us, WARMUP), plain_us / 1e3, arena_of(events), origins)


def named(graph: bytes) -> bytes:
    """The graph with a name for every node: what has none cannot be found again in a profile."""
    model = onnx.load_model_from_string(graph)
    nameless = [(index, node) for index, node in enumerate(model.graph.node) if not node.name]
    for index, node in nameless:
        node.name = f"{node.op_type}_{index}"
    return bytes(model.SerializeToString()) if nameless else graph


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
    constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
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
        _operator(name, nodes.get(name), constants, shapes[name], max(0.0, _trimmed(values[skip:]) - cost_us))
        for name, values in series.items()
    ]


def origins_of(optimized: onnx.GraphProto, given: onnx.GraphProto) -> dict[str, str]:
    """For each node that runs: the node of the graph as given whose tensor it produces, however much was fused into it.

    A node that ONNX Runtime put in of itself (a reordering, a quantization between two fused products) has none.
    """
    makers = {tensor: node.name or node.op_type for node in given.node for tensor in node.output if tensor}
    found = {node.name: [makers[tensor] for tensor in node.output if tensor in makers] for node in optimized.node}
    return {name: names[0] for name, names in found.items() if names}


def arena_of(events: list[dict[str, Any]]) -> Arena | None:
    """What the allocator of the session told with each operator; None where it tells nothing (older versions)."""
    told = [event["args"] for event in events if "mem_arena_held" in event.get("args", {})]
    if not told:
        return None
    held, used = (max(int(args.get(key, 0)) for args in told) for key in ("mem_arena_held", "mem_in_use_peak"))
    return Arena(held, used)


def _constant(tensor: onnx.TensorProto) -> Constant:
    try:
        width = int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError, ValueError):  # a type that NumPy has no name for: none is wider than this here
        width = 1
    return Constant(tuple(tensor.dims), width)


def _packed_bytes(node: onnx.NodeProto | None, constants: Mapping[str, Constant], shown: list[list[int]]) -> int:
    """Bytes of the weights that a kernel has packed for itself: read in each run, and no input of it any more."""
    left, total = [list(shape) for shape in shown], 0
    for name in node.input if node is not None else ():
        constant = constants.get(name)
        if constant is None:
            continue
        if list(constant.shape) in left:
            left.remove(list(constant.shape))
        else:
            total += math.prod(constant.shape) * constant.width
    return total


def _trimmed(values: list[float]) -> float:
    ordered = sorted(values)
    return float(np.mean(ordered[: max(1, math.ceil(len(ordered) * (1 - TRIM)))]))


def _operator(
    name: str, node: onnx.NodeProto | None, constants: Mapping[str, Constant], args: Mapping[str, Any], us: float
) -> Operator:
    op = args["op_name"]
    inputs, outputs = _tensors(args["input_type_shape"]), _tensors(args["output_type_shape"])
    second = node.input[1] if node is not None and len(node.input) > 1 else ""
    macs = _multiply_adds(op, inputs, outputs, constants[second].shape if second in constants else ())
    moved = sum(_BYTES.get(kind, 4) * math.prod(shape) for kind, shape in (*inputs, *outputs))
    moved += _packed_bytes(node, constants, [shape for _, shape in inputs])
    return Operator(op, second in constants, us, macs, moved, name)


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
