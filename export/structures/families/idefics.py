"""Idefics, the open Flamingo: pictures are not in the sequence, gated layers look at them from every word."""

from typing import Any

import torch
from torch import Tensor

from export.structures.backbone import Backbone, causal, over_moments


class Idefics(Backbone):
    """transformers' IdeficsModel."""

    family = "idefics"

    @property
    def vision(self) -> Any:
        return self.model.vision_model

    @property
    def language(self) -> Any:
        return self.model

    def tokens(self, pixels: Tensor) -> Tensor:
        found = self.model.vision_model(pixel_values=pixels).last_hidden_state
        return self.model.perceiver_resampler(found) if self.model.config.use_resampler else found

    def read(
        self, vision: Tensor, words: Tensor, there: Tensor, queries: Tensor, known: Tensor | None = None
    ) -> Tensor:
        moments, count = vision.shape[1], queries.shape[2]
        x = torch.cat([words[:, None].expand(-1, moments, -1, -1), queries], dim=2)
        one = torch.cat([there, torch.ones_like(queries[:, 0, :, 0])], dim=1)
        present = over_moments(one, moments, known)
        own = torch.eye(moments, device=x.device).repeat_interleave(x.shape[2], 0)  # which moment's picture
        own = own[None].expand(len(x), -1, -1)
        shown = "perceiver_embeddings" if self.model.config.use_resampler else "image_encoder_embeddings"
        found = self.model(
            inputs_embeds=x.flatten(1, 2), attention_mask=causal(present), image_attention_mask=own,
            position_ids=(present.cumsum(1) - 1).clamp_min(0).long(), use_cache=False, **{shown: vision},
        )  # fmt: skip
        return found.last_hidden_state.unflatten(1, (moments, -1))[:, :, -count:]
