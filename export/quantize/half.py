"""The `fp16` artifact: everything in float16, inputs and outputs in float32 as in every other artifact."""

from __future__ import annotations

import numpy as np

from edgevla.errors import BadInput, explain
from export.quantize.graph import finish, load, require_known, weight_of

LARGEST = 65504.0  # of float16


def convert(graph: bytes, keep: frozenset[str] = frozenset()) -> bytes:
    """The graph in float16 but for its interface and the nodes to keep.

    Raises:
        Usage: `keep` names no product of the graph.
        BadInput: a weight is too large for float16.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = load(graph)
    require_known(model, keep)
    for tensor in model.graph.initializer:
        largest = float(np.abs(weight_of(model, tensor.name)).max(initial=0.0)) if tensor.data_type == 1 else 0.0
        if not largest <= LARGEST:  # NaN does not pass
            todo = "use another kind for this stage"
            raise BadInput(explain(f"weight {tensor.name}", f"at most {LARGEST:g}", f"{largest:g}", todo))
    versions = model.ir_version
    half = convert_float_to_float16(model, keep_io_types=True, node_block_list=sorted(keep))
    half.ir_version = versions
    OnnxModel(half).topological_sort()  # the converter appends its casts at the end
    return finish(half)
