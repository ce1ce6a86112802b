"""A trained student as three ONNX graphs with static shapes: text, vision, head.

Opset 20, IR 10 (the robot's ONNX Runtime refuses IR above 11), no If, no Loop; checked by `onnx.checker` and by shape
inference before anything is written.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from edgevla.errors import Refused, explain

OPSET = 20
IR_VERSION = 10
FORBIDDEN = {"If", "Loop", "Scan"}
MAX_BYTES = 2_000_000_000  # of weights; a protobuf message ends at 2^31
_DTYPES = {torch.float32: "float32", torch.int64: "int64"}


@dataclass(frozen=True)
class StageSpec:
    """One stage: the module to trace, example inputs by name (batch 1), and the names of its outputs.

    Stages run in order; an input is a raw one (image, camera_mask, state, tokens, token_mask, noise, prefix,
    prefix_mask) or an output of a stage before. The last stage answers `chunk` (1, H, Z or A). With `times` it is one
    step of a flow: it runs once per time, takes `noisy` (1, H, Z), which is the noise first and then its own `chunk`,
    and `t` (1,).
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    times: tuple[float, ...] = ()


def export_stage(spec: StageSpec) -> bytes:
    """The stage as a checked ONNX model.

    Raises:
        Refused: the graph holds control flow or dynamic shapes, or more weights than one file can.
    """
    with _quiet():
        program = torch.onnx.export(
            spec.module.eval(),
            tuple(spec.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"stage {spec.name}: the exporter returned no program")
    _refuse_too_large(program.model.graph.initializers.values(), spec.name)
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    del model.graph.value_info[:]  # stale shapes break the quantizer; inference restores them
    _strip_metadata(model)
    onnx.checker.check_model(model, full_check=True)
    _refuse_control_flow(model, spec.name)
    return bytes(model.SerializeToString())


def interface(spec: StageSpec, file: str) -> dict[str, Any]:
    """The stage as the manifest of a bundle describes it."""
    with torch.inference_mode():
        output = spec.module(*spec.inputs.values())
    values = output if isinstance(output, tuple) else (output,)
    return {
        "name": spec.name,
        "file": file,
        "inputs": [_tensor(name, value) for name, value in spec.inputs.items()],
        "outputs": [_tensor(name, value) for name, value in zip(spec.outputs, values, strict=True)],
        "times": list(spec.times),
    }


def _tensor(name: str, value: Tensor) -> dict[str, Any]:
    return {"name": name, "dtype": _DTYPES[value.dtype], "shape": list(value.shape)}


def _strip_metadata(model: onnx.ModelProto) -> None:
    """Traces hold source paths of this machine: they do not belong into a bundle."""
    for holder in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del holder.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]


def _refuse_too_large(weights: Iterable[Any], name: str) -> None:
    size = sum(weight.const_value.nbytes for weight in weights if weight.const_value is not None)
    if size > MAX_BYTES:
        todo = "export it in smaller stages, or distil a student"
        raise Refused(
            explain(f"stage {name}", f"at most {MAX_BYTES / 1e9:g} GB of weights", f"{size / 1e9:.1f} GB", todo)
        )


def _refuse_control_flow(model: onnx.ModelProto, name: str) -> None:
    found = sorted({node.op_type for node in model.graph.node} & FORBIDDEN)
    shapes = [d for tensor in (*model.graph.input, *model.graph.output) for d in tensor.type.tensor_type.shape.dim]
    if found or any(d.HasField("dim_param") for d in shapes):
        raise Refused(
            explain(
                f"stage {name}", "static shapes, no control flow", f"{found or 'dynamic shapes'}", "rewrite the model"
            )
        )


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter prints its progress; errors still raise."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
