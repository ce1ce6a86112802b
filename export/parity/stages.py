"""Do the graphs say what the model says? Per stage, on real frames: torch -> ONNX FP32 -> int8.

Each stage is fed by the torch output of the stage before, so an error is found in the stage that makes it; the row
`whole` runs the stages behind each other and is the one in action units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.errors import Refused, explain
from export.onnx.chain import onnx_stage, run_chain, run_stage, torch_stage
from export.onnx.stages import StageSpec

Array = npt.NDArray[Any]
FP32_TOLERANCE = 1e-4  # relative rms
INT8_TOLERANCE = 0.05  # relative rms; whether it matters is judged by paired episodes


@dataclass(frozen=True)
class StageParity:
    """One stage in one format over all frames."""

    stage: str
    format: str  # fp32 | int8 | ...
    frames: int
    cosine_min: float
    cosine_p1: float
    max_abs: float  # in the units of the stage's output
    relative_rms: float
    max_action: tuple[float, ...] = ()  # per channel, in its unit; of stages that answer a chunk

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Tally:
    """Frames of one stage compared one by one; holds no frame."""

    cosines: list[float] = field(default_factory=list)
    max_abs: float = 0.0
    square_error: float = 0.0
    square: float = 0.0
    max_action: Array | None = None  # (A,), normalised

    def add(self, expected: Sequence[Array], got: Sequence[Array]) -> None:
        """One frame: everything that the stage answered."""
        a, b = (np.concatenate([np.ravel(x) for x in side]).astype(np.float64) for side in (expected, got))
        self.cosines.append(float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)))
        error = np.abs(a - b)
        self.max_abs = float(np.maximum(self.max_abs, error.max()))  # unlike max() it keeps a NaN
        self.square_error += float(error @ error)
        self.square += float(a @ a)

    def add_chunk(self, expected: Array, got: Array) -> None:
        """The same frame's chunk (1, H, A) again, channel by channel."""
        error = np.abs(expected.astype(np.float64) - got).max((0, 1))
        self.max_action = error if self.max_action is None else np.maximum(self.max_action, error)

    def row(self, stage: str, form: str, action_scale: Array) -> StageParity:
        units = () if self.max_action is None else tuple(float(v) for v in self.max_action * action_scale)
        return StageParity(
            stage,
            form,
            len(self.cosines),
            float(np.min(self.cosines)),
            float(np.quantile(self.cosines, 0.01)),
            self.max_abs,
            float(np.sqrt(self.square_error / max(self.square, 1e-12))),
            units,
        )


def stage_parity(
    specs: Sequence[StageSpec],
    sessions: Mapping[str, Mapping[str, Any]],
    frames: Iterable[Mapping[str, Array]],
    action_scale: Array,
) -> list[StageParity]:
    """Parity rows by format, in the order of the stages, `whole` last.

    Args:
        specs: the torch stages.
        sessions: format -> stage -> ONNX Runtime session.
        frames: raw inputs of batch 1 (see `StageSpec`).
        action_scale: (A,), units per normalised action.
    """
    names = [*(spec.name for spec in specs), "whole"]
    tallies = {form: {name: Tally() for name in names} for form in sessions}
    actions = len(action_scale)
    for frame in frames:
        values = run_chain(specs, frame, torch_stage)
        for form, stages in sessions.items():
            run = onnx_stage(stages)
            answers = {spec.name: run_stage(spec, values, run) for spec in specs}
            answers["whole"] = {"chunk": run_chain(specs, frame, run)["chunk"]}
            for name, answer in answers.items():
                tallies[form][name].add([values[key] for key in answer], list(answer.values()))
                if "chunk" in answer:
                    tallies[form][name].add_chunk(values["chunk"][..., :actions], answer["chunk"][..., :actions])
    return [tallies[form][name].row(name, form, action_scale) for form in sessions for name in names]


def first_diverging(rows: Iterable[StageParity], form: str, tolerance: float) -> StageParity | None:
    """The first stage of a format beyond the tolerance (relative rms); a NaN is beyond."""
    return next((row for row in rows if row.format == form and not row.relative_rms <= tolerance), None)


def require_float_parity(rows: Iterable[StageParity]) -> None:
    """The first gate: FP32 graphs equal torch.

    Raises:
        Refused: naming the first stage that diverges.
    """
    row = first_diverging(rows, "fp32", FP32_TOLERANCE)
    if row is not None:
        expected = f"ONNX FP32 within {FP32_TOLERANCE:g} (relative rms) of torch"
        todo = "report this: the exporter changed the model"
        raise Refused(explain(f"parity of stage {row.stage}", expected, f"{row.relative_rms:.2g}", todo))
