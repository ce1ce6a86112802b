"""What a student is taught: the chunk of the teacher's endpoint, and its view of the scene.

Batch: what `Targets.next` draws. A learned linear map stands between features of different width; it belongs to the
objective, is trained with the student and thrown away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.distill.rows import row_weights
from export.students.interface import Student

FEATURE_WEIGHT = 0.3


class DistilObjective(nn.Module):
    """Distance of the chunk to its target after the prefix, and of the observation tokens to the teacher's.

    Args:
        student: the module to train.
        mode: `distil`, or a control: `demos-only` looks at the demonstration's actions and at nothing of the teacher,
            `without-z` at everything but the noise.
        widths: of the student's and the teacher's observation tokens; None where one of them has none.
    """

    partly_used = False

    def __init__(self, student: Student, mode: str, widths: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.student, self.mode = student, mode
        self.matched = widths is not None and mode != "demos-only"
        if widths is not None and self.matched and widths[0] != widths[1]:
            self.map = nn.Linear(*widths)
        self.partly_used = student.kind != "one-pass"
        self.register_buffer("row_weight", row_weights(student.horizon, 2 * student.d_max))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        inputs = {name: batch[name] for name in _INPUTS if name in batch}
        noise = batch["noise"] if self.mode == "distil" else batch["noise"] * 0.0
        chunk, features = self.student(inputs, noise, batch["prefix"], batch["mask"])
        if self.mode == "demos-only":
            return chunk_loss(chunk, batch["actions"], batch["valid"] * (1 - batch["mask"]) * self._weight())
        loss = chunk_loss(chunk, batch["endpoint"], (1 - batch["mask"]) * self._weight())
        if not self.matched or features is None:
            return loss
        mapped = self.map(features) if hasattr(self, "map") else features
        return loss + FEATURE_WEIGHT * feature_loss(mapped, batch["features"])

    def _weight(self) -> Tensor:
        return torch.as_tensor(self.row_weight)


_INPUTS = ("image", "camera_mask", "state", "tokens", "token_mask")


def chunk_loss(chunk: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Smooth L1 of (B, H, A) over the rows that weigh, (B, H, 1)."""
    error = nn.functional.smooth_l1_loss(chunk.float(), target, beta=0.1, reduction="none")
    return (weight * error).sum() / (weight.sum() * chunk.shape[-1]).clamp_min(1.0)


def feature_loss(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared distance of observation tokens (B, M, W); where the teacher's number differs, of their means."""
    if features.shape[1] != wanted.shape[1]:
        features, wanted = features.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    return (features.float() - wanted.float()).square().mean()
