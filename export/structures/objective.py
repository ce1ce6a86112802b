"""How a policy of the family is trained on rows of moments: every moment of a row is asked for its chunk.

A row of T moments costs T encodings and gives T lessons, with every structure: what is compared at equal cost is the
structure. The first moments of a row know less history, as after a start.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from export.distill.rows import row_weights
from export.structures.heads.discrete import surprise
from export.structures.heads.head import Target, weighted
from export.structures.places import Places
from export.structures.policy import StructurePolicy


class StructureObjective(nn.Module):
    """Loss of a batch of rows.

    Batch: image (B, T, P, h, w, 3), tokens int64 (B, L), token_mask (B, L), state (B, T, S), actions (B, T, H, A),
    mask (B, T, H, 1) of committed rows, valid (B, T, H, 1); noise (B, T, H, A) where a teacher gave the actions;
    places (B, T, K) where they are a lesson too; found (B, T, K) in place of pictures that were looked at before.
    """

    row_weight: Tensor

    def __init__(self, policy: StructurePolicy, generator: torch.Generator, places: Places | None = None) -> None:
        super().__init__()
        self.policy, self.generator, self.places = policy, generator, places
        self.register_buffer("row_weight", row_weights(policy.config.horizon))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        policy, there = self.policy, batch["token_mask"]
        words = policy.backbone.hear(batch["tokens"])
        lessons = {key: batch[key].flatten(0, 1) for key in ("actions", "mask", "valid")}
        noise = batch["noise"].flatten(0, 1) if "noise" in batch else None
        target = Target(lessons["actions"], lessons["mask"], self.row_weight * lessons["valid"], noise)
        if policy.head is not None:
            see = policy.contexts if "image" in batch else policy.told
            context = see(batch["image" if "image" in batch else "found"], words, there, batch["state"])
            loss = policy.head.loss(context.flatten(0, 1), target, self.generator)
            return loss if self.places is None else loss + self.places(context, batch["places"])
        moments = batch["image"].shape[1]
        vision, state = policy.look(batch["image"].flatten(0, 1)), batch["state"].flatten(0, 1)
        heard, padded = (x.repeat_interleave(moments, 0) for x in (words, there))
        scores = policy.say(vision, heard, padded, state, target.actions)
        return weighted(surprise(scores, target.actions, policy.saying.values), target)
