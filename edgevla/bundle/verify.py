"""What hashes cannot show: that the graphs have the interface of the manifest and answer as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevla.bundle.answers import against_recorded, answers_of, first_divergence, worst_channel
from edgevla.bundle.manifest import Stage, Tensor
from edgevla.bundle.reader import Bundle
from edgevla.bundle.wiring import NEXT, remembered
from edgevla.errors import EdgevlaError
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.providers import ON_CPU, RunsOn, require_used

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


@dataclass(frozen=True)
class Verdict:
    """One comparison."""

    name: str
    expected: str
    got: str
    kept: bool


def verify_graphs(bundle: Bundle, runs_on: RunsOn = ON_CPU) -> list[Verdict]:
    """Load each graph with ONNX Runtime and compare its inputs and outputs with the manifest.

    `runs_on`: providers of the artifact; the FP32 graphs beside it are of the CPU. Raises BadInput where a graph cannot
    be loaded, Refused where a provider is missing.
    """
    manifest = bundle.manifest
    verdicts = []
    for float_model, stages in ((False, manifest.stages), (True, manifest.float_stages)):
        if not stages:
            continue
        engine = PolicyEngine(bundle, float_model=float_model, runs_on=ON_CPU if float_model else runs_on)
        sessions = engine.stages()
        verdicts += [_graph(stage, sessions[stage.name]) for stage in stages]
    return verdicts


def _graph(stage: Stage, session: Any) -> Verdict:
    expected = _interface(stage.inputs) + " -> " + _interface(stage.outputs)
    got = _interface(_tensors(session.get_inputs())) + " -> " + _interface(_tensors(session.get_outputs()))
    return Verdict(f"interface of {stage.file}", expected, got, expected == got)


def verify_golden(bundle: Bundle, runs_on: RunsOn = ON_CPU) -> list[Verdict]:
    """Run every golden vector from raw camera bytes through the engine: the chunk decides, and the stages are told.

    Raises Refused where nodes ran elsewhere than `runs_on` says: then it was not the device that answered.
    """
    engine = PolicyEngine(bundle, runs_on=runs_on, read_back=not runs_on.cpu_only)
    verdicts = [_golden(engine, name, bundle) for name in bundle.golden]
    if not runs_on.cpu_only:
        require_used(engine.node_providers(), runs_on.providers)
    return verdicts


def _golden(engine: PolicyEngine, name: str, bundle: Bundle) -> Verdict:
    golden, manifest = bundle.golden[name], bundle.manifest
    try:
        answers = answers_of(engine, golden)
    except Exception as error:  # what ONNX Runtime raises has no base class of its own
        return Verdict(name, "a chunk", _reason(error), False)
    off = np.abs(np.asarray(answers["chunk"][0], np.float64) - golden.chunk)
    memory = {f"{name}{NEXT}" for name in remembered(manifest.stages)}
    carried = [error for error in against_recorded(golden, answers, manifest) if error.output in memory]
    kept = bool(off.max() <= golden.tolerance) and not any(e.diverges(golden.tolerance) for e in carried)
    stages = against_recorded(golden, answers, manifest)
    worst, unit = worst_channel(off, manifest)
    first = None if kept else first_divergence(stages, golden.tolerance)
    named = f"stage {first.stage} diverges first" if first else ", ".join(f"{e.stage} {e.error:.2g}" for e in stages)
    expected = f"chunk within {golden.tolerance:.2g} of the recorded one"
    return Verdict(name, expected, f"{off.max():.2g} off at most, {worst:.2g} {unit}; {named}", kept)


def _reason(error: Exception) -> str:
    """An error in one line; an EdgevlaError says what was wrong by itself, any other needs its type."""
    line = " ".join(str(error).split())[:300]
    return line if isinstance(error, EdgevlaError) else f"{type(error).__name__}: {line}"


def _tensors(values: Any) -> tuple[Tensor, ...]:
    return tuple(Tensor(v.name, _DTYPES.get(v.type, v.type), tuple(v.shape)) for v in values)


def _interface(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in sorted(tensors, key=lambda t: t.name))
