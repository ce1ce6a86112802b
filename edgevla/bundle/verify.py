"""What hashes cannot show: that the graphs have the interface of the manifest and answer as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevla.bundle.manifest import Tensor
from edgevla.bundle.reader import Bundle
from edgevla.errors import BadInput, EdgevlaError, explain

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


@dataclass(frozen=True)
class Verdict:
    """One comparison."""

    name: str
    expected: str
    got: str
    kept: bool


def verify_graphs(bundle: Bundle) -> list[Verdict]:
    """Load each graph with ONNX Runtime and compare its inputs and outputs with the manifest."""
    return [
        _graph(bundle, stage.name, float_model)
        for float_model in (False, True)
        for stage in (bundle.manifest.float_stages if float_model else bundle.manifest.stages)
    ]


def _graph(bundle: Bundle, name: str, float_model: bool) -> Verdict:
    stage = bundle.stage(name, float_model)
    session = load_session(bundle.read(stage.file), stage.file)
    expected = _interface(stage.inputs) + " -> " + _interface(stage.outputs)
    got = _interface(_tensors(session.get_inputs())) + " -> " + _interface(_tensors(session.get_outputs()))
    return Verdict(f"interface of {stage.file}", expected, got, expected == got)


def load_session(graph: bytes, where: str, threads: int = 1) -> Any:
    """ONNX Runtime session on the CPU. Raises BadInput where the graph cannot be loaded."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4  # what it has to say is in the exception
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class per status code and no common base
        reason = str(error).splitlines()[0][:200]
        todo = "export the bundle again, for this version of ONNX Runtime"
        raise BadInput(explain(f"{where} cannot be loaded", "an ONNX graph", reason, todo)) from error


def verify_golden(bundle: Bundle) -> list[Verdict]:
    """Run every golden vector from raw camera bytes through the engine and compare the chunk."""
    from edgevla.policy.engine import PolicyEngine

    engine = PolicyEngine(bundle)
    return [_golden(engine, name, bundle) for name in bundle.golden]


def _golden(engine: Any, name: str, bundle: Bundle) -> Verdict:
    golden = bundle.golden[name]
    try:
        engine.set_instruction(golden.instruction)
        chunk = engine.infer(golden.image, golden.state, golden.prefix)
    except EdgevlaError as error:
        return Verdict(name, "a chunk", str(error).splitlines()[0], False)
    error_max = float(np.abs(np.asarray(chunk, np.float64) - golden.chunk).max())
    expected = f"chunk within {golden.tolerance:.2g} of the recorded one"
    return Verdict(name, expected, f"{error_max:.2g} off at most", error_max <= golden.tolerance)


def _tensors(values: Any) -> tuple[Tensor, ...]:
    return tuple(Tensor(v.name, _DTYPES.get(v.type, v.type), tuple(v.shape)) for v in values)


def _interface(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in sorted(tensors, key=lambda t: t.name))
