"""Training of the head alone: where things are is read off each picture once, then no picture is looked at again.

Seeing is learned from many pictures and acting from few, and a step of the head alone costs a fifth of a whole one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from export.distill.feed import fit
from export.distill.parallel import Place
from export.distill.progress import Reporter
from export.distill.source import Recorded
from export.structures.lessons import Lessons
from export.structures.policy import StructurePolicy
from export.structures.teacher import StructureTeacher

Array = npt.NDArray[Any]
BATCH = 128


def rest(policy: StructurePolicy) -> None:
    """Leaves only what comes behind the places to be trained."""
    if policy.narrow is None:
        raise TypeError("this policy is not told where things are")
    policy.requires_grad_(False)
    behind: tuple[nn.Module, ...] = (policy.narrow.say, policy.narrow.tell, policy.history, policy.answering)
    for part in behind:
        part.requires_grad_(True)


@torch.inference_mode()
def find_all(
    teacher: StructureTeacher, data: Recorded, place: Place, device: str = "cpu", loud: bool = True
) -> npt.NDArray[np.float32]:
    """What the policy finds in the picture of each tick, (N, K), in deviations; processes share the work."""
    policy, spec = teacher.policy.eval(), teacher.spec
    found = torch.zeros(len(data), policy.config.told)
    mine = np.arange(place.rank, len(data), place.world)
    reporter = Reporter("pictures, looked at once", len(mine), loud)
    for first in range(0, len(mine), BATCH):
        ticks = mine[first : first + BATCH]
        shown = np.stack([fit(data.image(ticks, camera.name), camera) for camera in spec.cameras], axis=1)
        heard = [teacher.tokenize(data.instruction(int(tick))) for tick in ticks]
        tokens, there = (torch.from_numpy(np.stack(column)).to(device) for column in zip(*heard, strict=True))
        state = torch.from_numpy(spec.state_stats.apply(np.asarray(data.state)[ticks]))[:, None].to(device)
        words = policy.backbone.hear(tokens)
        features = policy.features(torch.from_numpy(shown)[:, None].to(device), words, there, state)
        found[torch.from_numpy(ticks)] = features[:, -1, : policy.config.told].float().cpu()
        reporter.show(min(first + BATCH, len(mine)), "")
    reporter.close()
    if dist.is_initialized():
        dist.all_reduce(found)
    policy.train()
    return found.numpy()


class Found(Lessons):
    """`Lessons` without pictures: found (B, T, K) at each moment."""

    found: npt.NDArray[np.float32]

    def _seen(self, ticks: Array) -> dict[str, Tensor]:
        return {"found": torch.from_numpy(self.found[ticks])}
