"""PaliGemma: SigLIP, one projection, Gemma."""

from export.structures.backbone import HALF, Backbone


class PaliGemma(Backbone):
    """transformers' PaliGemmaModel."""

    family = "paligemma"
    pixels = HALF
