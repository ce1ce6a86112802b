"""SmolVLM and Idefics3: SigLIP for any size of picture, tokens folded together, Llama."""

from typing import Any

import torch
from torch import Tensor

from export.structures.backbone import HALF, Backbone
from export.teachers.lerobot.siglip import places_by_fraction


class SmolVLM(Backbone):
    """transformers' SmolVLMModel. Its own way to a picture's tokens branches on the data, so the parts are called."""

    family = "smolvlm"
    pixels = HALF
    spots: Tensor  # the row of the table of places that each patch takes

    def prepare(self) -> None:
        sizes = self.model.config.vision_config
        count, table = self.picture[0] // sizes.patch_size, sizes.image_size // sizes.patch_size
        self.register_buffer("spots", places_by_fraction(count, table, torch.float32), persistent=False)

    @property
    def vision(self) -> Any:
        return self.model.vision_model

    @property
    def language(self) -> Any:
        return self.model.text_model

    def tokens(self, pixels: Tensor) -> Tensor:
        tower = self.model.vision_model
        patches = tower.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        placed = patches + tower.embeddings.position_embedding(self.spots)
        hidden = tower.encoder(inputs_embeds=placed).last_hidden_state
        return self.model.connector(tower.post_layernorm(hidden))


class Idefics3(SmolVLM):
    """transformers' Idefics3Model: the same parts."""

    family = "idefics3"
