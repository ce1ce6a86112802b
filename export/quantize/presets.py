"""Target -> artifact, starting from the presets that `optimum` keeps per target.

What is taken from a preset: static or dynamic, the types of activations and weights, per channel, and for TensorRT the
form of the pairs. What is overruled, with the reason, stands in `Preset.overruled`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevla.errors import Usage, explain

_OPERATORS = "operators: only large products with a constant weight, the rest until it is measured to gain"
_SIGNED = "weights S8 instead of U8: one set of symmetric scales serves every artifact; may saturate without VNNI"


@dataclass(frozen=True)
class Preset:
    """What a target gets. Types as `onnxruntime.quantization.QuantType` names them."""

    target: str
    kind: str
    optimum: str  # name of the preset there
    static: bool
    activations: str
    weights: str
    per_channel: bool
    operators: tuple[str, ...]
    overruled: tuple[str, ...]


# target -> (kind, optimum's preset, its arguments)
_TARGETS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "x86-vnni": ("dynamic-s8", "avx512_vnni", {"is_static": False}),
    "x86-avx512": ("dynamic-s8", "avx512", {"is_static": False}),
    "x86-avx2": ("dynamic-s8", "avx2", {"is_static": False}),
    "arm64": ("dynamic-s8", "arm64", {"is_static": False}),
    "x86-vnni-static": ("static-qdq", "avx512_vnni", {"is_static": True}),
    "arm64-static": ("static-qdq", "arm64", {"is_static": True}),
    "tensorrt": ("trt", "tensorrt", {}),
}
TARGETS = tuple(_TARGETS)


def preset(target: str) -> Preset:
    """The preset of a target.

    Raises:
        Usage: no such target.
    """
    if target not in _TARGETS:
        raise Usage(explain("quantization target", " | ".join(TARGETS), target, "choose one of them"))
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    kind, name, arguments = _TARGETS[target]
    theirs = getattr(AutoQuantizationConfig, name)(per_channel=True, **arguments)
    weights = theirs.weights_dtype.name
    return Preset(
        target,
        kind,
        name,
        theirs.is_static,
        theirs.activations_dtype.name,
        "QInt8",
        theirs.per_channel,
        ("MatMul", "Gemm", "Conv") if kind == "trt" else ("MatMul", "Gemm"),
        (_OPERATORS, *((_SIGNED,) if weights != "QInt8" else ())),
    )


def for_host(host: Mapping[str, Any]) -> Preset:
    """The preset of the machine that `describe_host` described."""
    if host["arch"] == "aarch64":
        return preset("arm64")
    flags = set(host["flags"])
    return preset("x86-vnni" if host["vnni"] else "x86-avx512" if "avx512f" in flags else "x86-avx2")
