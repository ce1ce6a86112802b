"""KosMos-2: CLIP, 64 latent queries that pool it, a decoder with sinusoidal positions."""

from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from export.structures.backbone import Backbone


class Kosmos2(Backbone):
    """transformers' Kosmos2Model."""

    family = "kosmos-2"

    @property
    def vision(self) -> Any:
        return self.model.vision_model

    @property
    def language(self) -> Any:
        return self.model.text_model.model

    def tokens(self, pixels: Tensor) -> Tensor:
        tower = self.model.vision_model
        found = tower.model.post_layernorm(tower(pixels).last_hidden_state)
        return self.model.image_to_text_projection(normalize(found, dim=-1))[0]

    def think(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        places = positions + self.language.embed_positions.padding_idx + 1
        found = self.language(inputs_embeds=x, attention_mask=present, position_ids=places, use_cache=False)
        return found.last_hidden_state
