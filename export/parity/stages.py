"""Do the graphs say what the model says? Per stage, on real frames: torch -> ONNX FP32 -> int8.

Each stage is fed by the torch output of the stage before, so an error is found in the stage that makes it; the row
`whole` runs the stages behind each other and is the one in action units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgevla.errors import Refused, explain
from export.onnx.stages import StageSpec

Array = npt.NDArray[Any]
FP32_TOLERANCE = 1e-4  # relative rms
INT8_TOLERANCE = 0.05  # relative rms; whether it matters is judged by paired episodes


@dataclass(frozen=True)
class StageParity:
    """One stage in one format over all frames."""

    stage: str
    format: str  # fp32 | int8
    frames: int
    cosine_min: float
    cosine_p1: float
    max_abs: float  # in the units of the stage's output
    relative_rms: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(stage: str, form: str, expected: Array, got: Array) -> StageParity:
    """Rows of `expected` and `got` (frames, ...) compared one by one."""
    a, b = expected.reshape(len(expected), -1).astype(np.float64), got.reshape(len(got), -1).astype(np.float64)
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    rms = np.sqrt(np.mean((a - b) ** 2) / max(float(np.mean(a**2)), 1e-12))
    return StageParity(
        stage,
        form,
        len(a),
        float(cosine.min()),
        float(np.quantile(cosine, 0.01)),
        float(np.abs(a - b).max()),
        float(rms),
    )


def stage_parity(
    specs: list[StageSpec], sessions: Mapping[str, Mapping[str, Any]], frames: Mapping[str, Tensor]
) -> list[StageParity]:
    """Parity rows in the order of the stages.

    Args:
        specs: the torch stages.
        sessions: format -> stage -> ONNX Runtime session.
        frames: image, tokens, state, noise, prefix, prefix_mask, first dimension the frames.
    """
    with torch.inference_mode():
        outputs = {spec.name: _torch(spec, frames) for spec in specs[:2]}
        inputs = {**frames, **outputs}
        outputs["head"] = _torch(specs[2], inputs)
    rows = []
    for form, stages in sessions.items():
        for spec in specs:
            got = _onnx(stages[spec.name], spec, inputs)
            rows.append(compare(spec.name, form, outputs[spec.name].numpy(), got))
        rows.append(compare("whole", form, outputs["head"].numpy(), _whole(specs, stages, frames)))
    return rows


def require_float_parity(rows: list[StageParity], specs: list[StageSpec]) -> None:
    """The first gate: FP32 graphs equal torch.

    Raises:
        Refused: naming the first stage that diverges.
    """
    for row in rows:
        if row.format == "fp32" and not row.relative_rms <= FP32_TOLERANCE:  # NaN does not pass
            raise Refused(
                explain(
                    f"parity of stage {row.stage}",
                    f"ONNX FP32 within {FP32_TOLERANCE:g} (relative rms) of torch",
                    f"{row.relative_rms:.2g}",
                    "report this: the exporter changed the model",
                )
            )


def _torch(spec: StageSpec, inputs: Mapping[str, Tensor]) -> Tensor:
    return torch.as_tensor(spec.module(*(inputs[name] for name in spec.inputs)))


def _onnx(session: Any, spec: StageSpec, inputs: Mapping[str, Tensor]) -> Array:
    count = len(next(iter(inputs.values())))
    rows = [session.run(None, {n: inputs[n][i : i + 1].numpy() for n in spec.inputs})[0] for i in range(count)]
    return np.concatenate(rows)


def _whole(specs: list[StageSpec], sessions: Mapping[str, Any], frames: Mapping[str, Tensor]) -> Array:
    text = torch.from_numpy(_onnx(sessions["text"], specs[0], frames))
    vision = torch.from_numpy(_onnx(sessions["vision"], specs[1], frames))
    return _onnx(sessions["head"], specs[2], {**frames, "text": text, "vision": vision})
