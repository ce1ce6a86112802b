"""A vision-language model as the structures use it: it sees pictures, hears words, and thinks over a sequence.

Shapes: B batch, T moments (oldest first), N tokens of a moment's pictures, L words, K queries, D width.

A family's adapter (`export.structures.families`) says where the parts of its model are; what it leaves out is done
here. A sequence is, moment after moment: the first word, the pictures, the other words, the queries; causal, so that a
query knows its own moment and those before it. Padded words are looked at by nobody and take no position.
"""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgevla.errors import BadInput, explain

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FAR = -1e9  # added to the score of what may not be looked at


class Backbone(nn.Module, ABC):
    """The model of one family. `pixels`: mean and deviation of the colours it was trained with, in [0, 1]."""

    family: ClassVar[str]  # `model_type` of its config.json
    pixels: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]] = CLIP
    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Any, picture: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.picture = model, picture
        for name, values in zip(("mean", "deviation"), self.pixels, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.prepare()

    def prepare(self) -> None:
        """What an adapter computes once, from the model and the size of the picture."""

    @property
    def width(self) -> int:
        """D."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def vocabulary(self) -> int:
        """Words that it knows."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def vision(self) -> Any:
        """What looks at pictures: frozen as one."""
        return self.model.vision_tower

    @property
    def language(self) -> Any:
        """What takes `inputs_embeds` and gives `last_hidden_state`."""
        return self.model.language_model

    def see(self, image: Tensor) -> Tensor:
        """Pictures float32 (B, h, w, 3) in [-1, 1] to tokens (B, N, D)."""
        return self.tokens((image.permute(0, 3, 1, 2) * 0.5 + 0.5 - self.mean) / self.deviation)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, h, w) to tokens (B, N, D)."""
        found: Tensor = self.model.get_image_features(pixels)
        return found

    def hear(self, words: Tensor) -> Tensor:
        """Ids int64 (B, L) to (B, L, D)."""
        found: Tensor = self.model.get_input_embeddings()(words)
        return found

    def read(
        self, vision: Tensor, words: Tensor, there: Tensor, queries: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """What the model makes of the queries (B, T, K, D), after pictures (B, T, N, D) and words (B, L, D).

        there: float32 (B, L), 1 where a word is. known: (B, T), 1 where a moment is; None: all are.
        """
        moments, count = vision.shape[1], queries.shape[2]
        heard = words[:, None].expand(-1, moments, -1, -1)
        x = torch.cat([heard[:, :, :1], vision, heard[:, :, 1:], queries], dim=2)
        seen, asked = torch.ones_like(vision[:, 0, :, 0]), torch.ones_like(queries[:, 0, :, 0])
        present = over_moments(torch.cat([there[:, :1], seen, there[:, 1:], asked], dim=1), moments, known)
        hidden = self.think(x.flatten(1, 2), present, self.places(present, moments, vision.shape[2]))
        return hidden.unflatten(1, (moments, -1))[:, :, -count:]

    def places(self, present: Tensor, moments: int, pictures: int) -> Tensor:
        """Position of each token, int64 (B, S): one after the other, leaving out padded words. pictures: N."""
        return (present.cumsum(1) - 1).clamp_min(0).long()

    def think(self, x: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """The language layers over (B, S, D). present: (B, S), 1 where a token is; positions: int64 (B, S)."""
        found = self.language(inputs_embeds=x, attention_mask=causal(present), position_ids=positions, use_cache=False)
        hidden: Tensor = found.last_hidden_state
        return hidden


def over_moments(present: Tensor, moments: int, known: Tensor | None) -> Tensor:
    """Which tokens of a sequence are there, (B, T * n), from those of one moment (B, n)."""
    repeated = present[:, None].expand(-1, moments, -1)
    return (repeated if known is None else repeated * known[..., None]).flatten(1)


def causal(present: Tensor) -> Tensor:
    """What is added to scores (B, 1, S, S): nobody looks ahead, or at what is not there."""
    ahead = torch.ones(present.shape[1], present.shape[1], device=present.device).triu(1)
    return ((ahead[None] + (1.0 - present)[:, None]) > 0).float()[:, None] * FAR


def freeze(backbone: Backbone, vision: bool, language: bool, words: bool, last_layers: int | None = None) -> None:
    """Says what is trained: True freezes. `last_layers`: of the language model only so many are, of the rest nothing
    but what is said of pictures and words.

    Raises:
        BadInput: `last_layers` of a model whose layers are not found.
    """
    backbone.requires_grad_(last_layers is None)
    if language:
        backbone.language.requires_grad_(False)
    if last_layers is not None:
        layers = getattr(backbone.language, "layers", None)
        if layers is None or not 0 <= last_layers <= len(layers):
            got = "no `layers`" if layers is None else f"{last_layers} of {len(layers)}"
            raise BadInput(explain(f"trained layers of {backbone.family}", "as many as there are", got, "choose fewer"))
        for layer in list(layers)[len(layers) - last_layers :]:
            layer.requires_grad_(True)
    backbone.vision.requires_grad_(not vision)
    backbone.model.get_input_embeddings().requires_grad_(not words)
