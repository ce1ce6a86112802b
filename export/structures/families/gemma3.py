"""Gemma 3: SigLIP pooled to 256 tokens, Gemma with local and global layers."""

from torch import Tensor

from export.structures.backbone import HALF, Backbone, causal


class Gemma3(Backbone):
    """transformers' Gemma3Model. A sequence here is shorter than the local layers reach: one mask serves both."""

    family = "gemma3"
    pixels = HALF

    def think(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        masks = dict.fromkeys(("full_attention", "sliding_attention"), causal(present))
        found = self.language(inputs_embeds=x, attention_mask=masks, position_ids=positions, use_cache=False)
        return found.last_hidden_state
