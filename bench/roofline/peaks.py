"""What one thread of this CPU reaches: large products through ONNX Runtime, FP32 and U8S8, and a large copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.roofline.classes import Peaks

SHAPES = ((256, 1024, 1024), (512, 2048, 512), (1024, 1024, 1024))  # rows, depth, columns; the best counts
CALLS = 12
COPY_BYTES = 256 * 1024**2  # far larger than any cache
OPSET, IR_VERSION = 20, 10


def measure_peaks(
    calls: int = CALLS, shapes: tuple[tuple[int, int, int], ...] = SHAPES, copy_bytes: int = COPY_BYTES
) -> Peaks:
    """The best of `calls` calls of each: a peak is what was reached once, not what is usual."""
    fp32 = max(_gops(*shape, calls, integer=False) for shape in shapes)
    u8s8 = max(_gops(*shape, calls, integer=True) for shape in shapes)
    return Peaks(fp32, u8s8, _copy_gbs(copy_bytes, calls))


def _gops(rows: int, depth: int, columns: int, calls: int, integer: bool) -> float:
    rng = np.random.default_rng(0)
    if integer:
        x: Any = rng.integers(0, 256, (rows, depth), np.uint8)
        weight = rng.integers(-127, 128, (depth, columns), np.int8)
    else:
        x, weight = (rng.standard_normal(shape, np.float32) for shape in ((rows, depth), (depth, columns)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = _product(x, weight, integer)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return 2 * rows * depth * columns / _best_s(lambda: session.run(None, {"x": x}), calls) / 1e9


def _product(x: Any, weight: Any, integer: bool) -> bytes:
    kinds = (TensorProto.UINT8, TensorProto.INT32) if integer else (TensorProto.FLOAT, TensorProto.FLOAT)
    shapes = (x.shape, (x.shape[0], weight.shape[1]))
    values = [helper.make_tensor_value_info(n, k, s) for n, k, s in zip("xy", kinds, shapes, strict=True)]
    node = helper.make_node("MatMulInteger" if integer else "MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "peak", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _copy_gbs(count: int, calls: int) -> float:
    source, target = np.ones(count, np.uint8), np.zeros(count, np.uint8)
    return 2 * count / _best_s(lambda: np.copyto(target, source), calls) / 1e9


def _best_s(call: Callable[[], object], calls: int) -> float:
    call()  # pages and packed weights
    spent = []
    for _ in range(calls):
        begin = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - begin)
    return max(1, min(spent)) / 1e9
