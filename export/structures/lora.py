"""Low-rank adapters on the language model of a backbone, by the library `peft`, and merged into it before an export."""

from __future__ import annotations

from torch import nn

from edgevla.errors import BadInput, explain
from export.structures.backbone import Backbone


def add_lora(backbone: Backbone, rank: int, alpha: int | None = None, dropout: float = 0.0) -> int:
    """Puts an adapter on every linear layer of the language model and freezes all else of the backbone.

    Args:
        backbone: changed in place.
        rank: of the adapters.
        alpha: their scale is alpha / rank; None: 2 * rank.
        dropout: of what goes into them, in training.

    Returns:
        How many layers have one.

    Raises:
        BadInput: a rank below 1, or a language model without linear layers.
    """
    if rank < 1:
        raise BadInput(explain("rank of the adapters", "1 or more", rank, "choose a larger one"))
    from peft import LoraConfig, inject_adapter_in_model

    language = backbone.language
    seeing = {id(module) for module in backbone.vision.modules()}  # some models are one with their language part
    layers = (item for item in language.named_modules() if id(item[1]) not in seeing)
    targets = [name for name, module in layers if isinstance(module, nn.Linear)]
    if not targets:
        todo = "train it whole, or freeze it"
        raise BadInput(explain(f"adapters on {backbone.family}", "linear layers", "none", todo))
    backbone.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, lora_dropout=dropout, target_modules=targets)
    inject_adapter_in_model(config, language)
    return len(targets)


def merge_lora(backbone: Backbone) -> int:
    """Adds every adapter to its layer and takes it out: the backbone is as it was, with other weights. How many."""
    from peft.tuners.lora import LoraLayer

    merged = 0
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())
                merged += 1
    return merged
