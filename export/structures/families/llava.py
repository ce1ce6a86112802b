"""LLaVA: CLIP without its class token, two projections, any language model."""

import torch
from torch import Tensor

from export.structures.backbone import Backbone


class Llava(Backbone):
    """transformers' LlavaModel."""

    family = "llava"

    def tokens(self, pixels: Tensor) -> Tensor:
        return torch.stack(self.model.get_image_features(pixels))
