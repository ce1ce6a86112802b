"""One float graph in, one artifact out, by kind; and the record of what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevla.errors import BadInput, Refused, Usage, explain
from export.quantize import check_trt, dynamic, half, nbits, static, trt
from export.quantize.calibrate import Calibration as Calibration
from export.quantize.graph import layer_names as layer_names
from export.quantize.graph import load, multiply_adds, products, require_known
from export.quantize.readback import int8_share
from export.quantize.scales import WeightScales

KINDS = ("fp32", "fp16", "dynamic-s8", "static-qdq", "trt", "nbits8", "nbits4")
CPU_INT8 = ("dynamic-s8", "static-qdq")  # what claims to run in int8 on this machine


def quantize(
    graph: bytes,
    kind: str,
    *,
    calibration: Calibration | None = None,
    keep: frozenset[str] = frozenset(),
    scales: WeightScales | None = None,
) -> bytes:
    """The graph as an artifact of one kind; as it is where nothing in it is worth quantizing.

    Args:
        graph: the raw FP32 export of one stage. Optimising it first fuses MatMul + Add, and quantizers miss it.
        kind: one of KINDS.
        calibration: feeds of real frames; the static kinds need them.
        keep: nodes that stay in float (`layer_names` says what they are).
        scales: weight scales by node, the same for all int8 kinds; default: computed, which gives the same.

    Raises:
        Usage: unknown kind, or `keep` names no product of the graph.
        BadInput: an unreadable graph, dynamic shapes, no or bad calibration.
        Refused: half of an attention is kept (trt), or the artifact would not run as it claims.
    """
    if kind not in KINDS:
        raise Usage(explain("artifact kind", " | ".join(KINDS), kind, "choose one of them"))
    require_known(load(graph), keep)
    result = _made(graph, kind, calibration, keep, scales)
    if result != graph:
        require_as_claimed(graph, result, kind)
    return result


def _made(
    graph: bytes, kind: str, calibration: Calibration | None, keep: frozenset[str], scales: WeightScales | None
) -> bytes:
    if kind == "fp32":
        return graph
    if kind == "fp16":
        return half.convert(graph, keep)
    if kind == "dynamic-s8":
        return dynamic.quantize(graph, keep, scales)
    if kind in ("nbits8", "nbits4"):
        return nbits.quantize(graph, int(kind[-1]), keep)
    if calibration is None:
        raise BadInput(explain(f"{kind} without calibration", "feeds of real frames", "none", "give calibration="))
    return (static if kind == "static-qdq" else trt).quantize(graph, calibration, keep, scales)


def require_as_claimed(graph: bytes, result: bytes, kind: str) -> None:
    """Raises Refused if an artifact has not the form, or does not run in the type, that its kind claims.

    A product counts as int8 only if it is int8 after ONNX Runtime's optimisation of the graph.
    """
    if kind == "trt":
        check_trt.require_trt_form(result)
    if kind in CPU_INT8:
        claimed = int8_claim(graph, result)
        share = int8_share(result)
        if share == 0.0 or share < claimed - 1e-6:
            todo = "see readback.executed(): a fusion put products back into float"
            got = f"{share:.1%} of the multiply-adds"
            raise Refused(explain(f"{kind} after ONNX Runtime's optimisation", f"{claimed:.1%} in int8", got, todo))


def int8_claim(graph: bytes, result: bytes) -> float:
    """Share of the float graph's multiply-adds whose weight the artifact no longer holds in float."""
    model = load(graph)
    costs, kept = multiply_adds(model), {p.node for p in products(load(result))}
    claimed = sum(costs[p.node] for p in products(model) if p.node not in kept)
    return claimed / max(sum(costs.values()), 1)


def record(graph: bytes, result: bytes, kind: str, host: Mapping[str, Any]) -> dict[str, Any]:
    """What an artifact is, for the bundle's evidence.

    Args:
        graph: the float graph.
        result: the artifact.
        host: of `edgevla.telemetry.host.describe_host`, where errors and speed were measured.
    """
    names, kept = layer_names(graph), {p.node for p in products(load(result))}
    notes = [trt.LABEL] if kind == "trt" else []
    if kind in CPU_INT8 and host["arch"] == "x86_64" and not host["vnni"]:
        notes.append("U8S8 products saturate on this CPU (no VNNI): its errors are not those of VNNI or ARM CPUs")
    return {
        "kind": kind,
        "int8_share": int8_share(result) if kind in CPU_INT8 else None,
        "quantized": [name for node, name in names.items() if node not in kept],
        "float": [name for node, name in names.items() if node in kept],
        "bytes": len(result),
        "notes": notes,
        "host": {key: host[key] for key in ("cpu", "arch", "flags", "vnni")},
    }
