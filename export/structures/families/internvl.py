"""InternVL: its own vision transformer, four tokens folded into one, any language model."""

from export.structures.backbone import Backbone

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class InternVL(Backbone):
    """transformers' InternVLModel."""

    family = "internvl"
    pixels = IMAGENET
