"""The `nbits8` and `nbits4` artifacts: weights in blocks of 8 or 4 bits, activations in float (MatMulNBits).

They save memory, hardly time: 1.1x and 1.0x of FP32 were measured on models that are compute-bound. ONNX Runtime
1.23 or later runs 8 bits on ARM.
"""

from __future__ import annotations

import logging

from edgevla.errors import Refused, explain
from export.quantize.graph import finish, load, split_gemms, worth_it

BLOCK = 32  # weights along the depth that share a scale
INT8_COMPUTE = 4  # ONNX Runtime's accuracy level: activations in blocks of int8 inside the operator


def quantize(graph: bytes, bits: int, keep: frozenset[str] = frozenset()) -> bytes:
    """The graph with its large matrix products as MatMulNBits, as it is if there are none.

    The quantizer knows MatMul only: a Gemm, which a pre-processing pass makes of MatMul + Add, would stay in float
    without a word. So Gemms are split first, and what became of the products is counted.

    Raises:
        Usage: `keep` names no product of the graph.
        Refused: a product stayed in float.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    model = load(graph)
    names = {p.node for p in worth_it(model, keep)}
    if not names:
        return graph
    split_gemms(model, names)
    others = [node.name for node in model.graph.node if node.name not in names]
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=BLOCK,
        is_symmetric=True,
        accuracy_level=INT8_COMPUTE,
        nodes_to_exclude=others,
    )
    quantizer.process()
    result = quantizer.model.model
    count = sum(node.op_type == "MatMulNBits" for node in result.graph.node)
    if count != len(names):
        raise Refused(
            explain(
                f"{bits}-bit weights",
                f"{len(names)} products",
                f"{count}",
                "quantize the raw export, not an optimised one",
            )
        )
    result.ir_version = model.ir_version
    return finish(result)
