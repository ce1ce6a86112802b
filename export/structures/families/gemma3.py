"""Gemma 3: SigLIP pooled to 256 tokens, Gemma with local and global layers."""

from torch import Tensor

from edgevla.errors import BadInput, explain
from export.structures.backbone import HALF, Backbone, causal


class Gemma3(Backbone):
    """transformers' Gemma3Model. Where a sequence is shorter than the local layers reach, one mask serves both."""

    family = "gemma3"
    pixels = HALF

    def think(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        if x.shape[1] > self.language.config.sliding_window:
            got, todo = f"{x.shape[1]} tokens", "take fewer moments, or resample the pictures"
            raise BadInput(explain("a sequence of Gemma 3", f"{self.language.config.sliding_window}", got, todo))
        masks = dict.fromkeys(("full_attention", "sliding_attention"), causal(present))
        found = self.language(inputs_embeds=x, attention_mask=masks, position_ids=positions, use_cache=False)
        return found.last_hidden_state
