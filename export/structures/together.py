"""One network for several robots: each has projections of its own state and actions, everything else is shared.

A step sees a batch of each robot, so the first robot sees as many frames as it would alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from export.structures.lessons import Lessons
from export.structures.objective import StructureObjective
from export.structures.policy import StructurePolicy


class Together(nn.Module):
    """Mean of the robots' losses. Batch: that of `StructureObjective`, each key behind the number of its robot."""

    def __init__(self, objectives: Sequence[StructureObjective]) -> None:
        super().__init__()
        self.objectives = nn.ModuleList(objectives)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        losses = [objective(_of(batch, f"{number}/")) for number, objective in enumerate(self.objectives)]
        return torch.stack(losses).mean()


def draw(lessons: Sequence[Lessons]) -> dict[str, Tensor]:
    """A batch of each robot, for `Together`."""
    return {f"{number}/{key}": value for number, one in enumerate(lessons) for key, value in one.next().items()}


def share(own: StructurePolicy, guest: StructurePolicy) -> tuple[str, ...]:
    """Lets the guest use `own`'s backbone and every tensor of the same name and shape; names of what stays its own."""
    guest.backbone = own.backbone
    mine, apart = {**dict(own.named_parameters()), **dict(own.named_buffers())}, []
    for path, module in guest.named_modules():
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for name, value in tensors.items():
            whole = f"{path}.{name}" if path else name
            if whole in mine and mine[whole].shape == value.shape:
                setattr(module, name, mine[whole])
            else:
                apart.append(whole)
    return tuple(apart)


def _of(batch: Mapping[str, Tensor], robot: str) -> dict[str, Tensor]:
    return {key.removeprefix(robot): value for key, value in batch.items() if key.startswith(robot)}
