"""Tables of words in int8: a row has one scale, and is made float again when it is looked up.

ONNX Runtime's quantizer gives a whole table one scale. Of a language model the table is a large part of the bytes, and
a lookup costs nothing, so this saves memory, not time.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MIN_ROWS = 1024


def quantize_tables(graph: bytes) -> bytes:
    """The graph with its FP32 tables (rows, width) in int8, symmetric, a scale per row. Only those just looked up."""
    model = onnx.load_model_from_string(graph)
    tables = {t.name: t for t in model.graph.initializer if _is_table(t)}
    readers = {name: [n for n in model.graph.node if name in n.input] for name in tables}
    chosen = [name for name, nodes in readers.items() if nodes and all(_looks_up(node, name) for node in nodes)]
    if not chosen:
        return graph
    for name in chosen:
        _replace(model.graph, tables[name], readers[name])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _is_table(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.dims[0] >= MIN_ROWS


def _looks_up(node: onnx.NodeProto, table: str) -> bool:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    return node.op_type == "Gather" and node.input[0] == table and axis == 0


def _replace(graph: onnx.GraphProto, table: onnx.TensorProto, readers: list[onnx.NodeProto]) -> None:
    rows = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / np.float32(127)
    small = np.clip(np.rint(rows / scales), -127, 127).astype(np.int8)
    name = table.name
    graph.initializer.remove(table)
    graph.initializer.append(numpy_helper.from_array(small, f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), f"{name}_scales"))
    for node in readers:
        place = next(i for i, other in enumerate(graph.node) if other is node or other == node)
        index, out = node.input[1], node.output[0]
        graph.node.remove(node)
        for offset, new in enumerate(_lookup(name, index, out)):
            graph.node.insert(place + offset, new)


def _lookup(name: str, index: str, out: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gather", [f"{name}_int8", index], [f"{out}_int8"], f"{out}_rows", axis=0),
        helper.make_node("Cast", [f"{out}_int8"], [f"{out}_cast"], f"{out}_cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}_scales", index], [f"{out}_scale"], f"{out}_scales", axis=0),
        helper.make_node("Mul", [f"{out}_cast", f"{out}_scale"], [out], f"{out}_dequantized"),
    ]
