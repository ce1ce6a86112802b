"""Stages behind each other, in torch or in ONNX Runtime: each is fed by name, a flow runs once per time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgevla.bundle.wiring import NEXT
from export.onnx.stages import StageSpec

Array = npt.NDArray[Any]
Values = dict[str, Array]
RunStage = Callable[[StageSpec, Mapping[str, Array]], Sequence[Array]]


def torch_stage(spec: StageSpec, feeds: Mapping[str, Array]) -> Sequence[Array]:
    """The torch module of a stage as a `RunStage`."""
    with torch.inference_mode():
        answer = spec.module(*(torch.from_numpy(feeds[name]) for name in spec.inputs))
    return [value.numpy() for value in (answer if isinstance(answer, tuple) else (answer,))]


def onnx_stage(sessions: Mapping[str, Any]) -> RunStage:
    """ONNX Runtime sessions by stage as a `RunStage`."""
    return lambda spec, feeds: sessions[spec.name].run(None, {name: feeds[name] for name in spec.inputs})


def run_stage(spec: StageSpec, values: Mapping[str, Array], run: RunStage) -> Values:
    """What one stage answers to the values, by name."""
    if not spec.times:
        return dict(zip(spec.outputs, run(spec, values), strict=True))
    x = values["noise"]
    for t in spec.times:
        (x,) = run(spec, {**values, "noisy": x, "t": np.array([t], np.float32)})
    return {spec.outputs[0]: x}


def blank_memory(specs: Sequence[StageSpec]) -> Values:
    """What a policy that remembers starts from: zeros for each input that some stage answers anew."""
    answered = {name for spec in specs for name in spec.outputs}
    wanted = {name: value for spec in specs for name, value in spec.inputs.items() if name + NEXT in answered}
    return {name: np.zeros(tuple(value.shape), np.float32) for name, value in wanted.items()}


def run_chain(specs: Sequence[StageSpec], frame: Mapping[str, Array], run: RunStage) -> Values:
    """Everything from raw inputs (see `StageSpec`) to `chunk`, by name. A memory that `frame` lacks is blank."""
    values = {**blank_memory(specs), **frame}
    for spec in specs:
        values |= run_stage(spec, values, run)
    return values
