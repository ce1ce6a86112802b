"""What a teacher is to the rest of the pipeline: one small interface, whatever library trained it.

Shapes: B batch, T observations the policy looks back on (oldest first), N cameras, L tokens, S state, A action, H rows
of a chunk, Z numbers of noise per row. Everything a teacher takes and gives is normalised; `TeacherSpec` says how.

    inputs      image (B, T * N, h, w, 3) in [-1, 1], state (B, T * S), tokens int64 (B, L), token_mask (B, L),
                camera_mask (B, T * N), 1 where the camera is there
    noise       (B, H, Z), what the action head starts from
    prefix      (B, H, A) with mask (B, H, 1): rows already committed, clean, at the head of the chunk
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from export.onnx.stages import StageSpec

Float32 = npt.NDArray[np.float32]
Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class CameraSpec:
    """One picture that the model takes, and what becomes of a raw one of another size."""

    name: str  # as the dataset names it, without "observation.images."
    height: int  # of the picture that the model takes, pixels
    width: int
    fit: str = "exact"  # exact: raw pictures have that size | pad: aspect kept, padded at the top left | stretch
    when_missing: str = "refuse"  # refuse | blank: the model was trained with absent cameras, shown as -1 and masked


@dataclass(frozen=True)
class Affine:
    """normalised = (value - offset) / scale, float32 (n,) each, scale > 0. Every LeRobot mode is of this form."""

    offset: Float32
    scale: Float32

    def apply(self, values: Float32) -> Float32:
        return ((values - self.offset) / self.scale).astype(np.float32)

    def invert(self, normalised: Float32) -> Float32:
        return (normalised * self.scale + self.offset).astype(np.float32)


@dataclass(frozen=True)
class TeacherSpec:
    """Everything needed to feed a teacher and to read its answer."""

    name: str  # of the architecture: flow-teacher, act, diffusion, smolvla, pi0, pi05, ...
    cameras: tuple[CameraSpec, ...]
    state: tuple[str, ...]  # names, S of them
    actions: tuple[str, ...]  # names, A of them
    horizon: int  # H, ticks
    d_max: int  # longest prefix it was trained with, ticks; 0: it knows no prefix
    max_tokens: int  # L; 0: it hears no words
    noise: int  # Z; 0: it is deterministic and takes no noise
    state_stats: Affine
    action_stats: Affine
    observations: int = 1  # T
    stride: int = 1  # ticks between two of them


class TeacherPolicy(nn.Module, ABC):
    """A trained policy: observation in, action chunk out.

    Subclasses are the adapters. A module of your own needs `spec`, `encode` and `decode` (docs/export.md); `stages` is
    for exporting it as it is, without a student.
    """

    spec: TeacherSpec
    sha256: str  # of its weights
    known: tuple[str, ...] = ()  # words of its own, ids from 1; one with a tokenizer, or that hears nothing, has none

    @abstractmethod
    def encode(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """What does not depend on the noise: once per observation. The tuple is what `decode` reads."""

    @abstractmethod
    def decode(self, context: tuple[Tensor, ...], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """The chunk (B, H, A), all flow or diffusion steps. Without knowledge of a prefix it is not looked at."""

    def features(self, context: tuple[Tensor, ...]) -> Tensor | None:
        """Observation tokens (B, M, W) that a student's may be matched with, or None."""
        return None

    def tokenize(self, text: str) -> tuple[npt.NDArray[np.int64], Float32]:
        """Token ids (L,) and their mask (L,). Raises BadInput: no tokenizer, or too many tokens."""
        return np.zeros(0, np.int64), np.zeros(0, np.float32)

    def stages(self) -> list[StageSpec]:
        """Graphs for direct export, in the order they run (see `StageSpec`). Raises Refused where there are none."""
        from edgevla.errors import Refused, explain

        raise Refused(explain(f"direct export of {self.spec.name}", "stages", "none", "distil a student instead"))

    def forward(self, inputs: Inputs, noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        return self.decode(self.encode(inputs), noise, prefix, mask)

    @property
    def parameters_total(self) -> int:
        """Numbers, not bytes: a 4-bit parameter of bitsandbytes holds two in each."""
        packed = ((p, getattr(p, "quant_state", None)) for p in self.parameters())
        return sum(p.numel() if state is None else state.shape.numel() for p, state in packed)
