"""One network for several robots: the backbone, and behind it every layer that has the same shape for both.

What takes in a state or a prefix, or says an action, has another shape for a robot of other joints: each keeps its own.
Robots of as many joints share these too. A step sees a batch of each robot, so the first one sees as many frames as it
would alone.
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
    """A batch of each robot, for `Together` once it is `shown`."""
    return {f"{number}/{key}": value for number, one in enumerate(lessons) for key, value in one.drawn().items()}


def share(own: StructurePolicy, guest: StructurePolicy) -> tuple[str, ...]:
    """Lets the guest use `own`'s backbone and each layer whose tensors all have its shapes; names of what it keeps."""
    guest.backbone = own.backbone
    mine, apart = dict(own.named_modules()), []
    for path, module in guest.named_modules():
        tensors = _tensors(module)
        theirs = _tensors(mine[path]) if path in mine else {}
        if {name: value.shape for name, value in tensors.items()} != {n: v.shape for n, v in theirs.items()}:
            apart += [f"{path}.{name}" if path else name for name in tensors]
            continue
        for name, value in theirs.items():
            setattr(module, name, value)
    return tuple(apart)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that the module holds itself."""
    return {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}


def _of(batch: Mapping[str, Tensor], robot: str) -> dict[str, Tensor]:
    return {key.removeprefix(robot): value for key, value in batch.items() if key.startswith(robot)}
