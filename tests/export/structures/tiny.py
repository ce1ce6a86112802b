"""Tiny policies of the family: random weights, every size as small as it goes."""

from __future__ import annotations

from typing import Any

import torch

from export.structures.backbone import Backbone
from export.structures.config import StructureConfig
from export.structures.families import random_backbone
from export.structures.families.ours import Ours, OwnModel, OwnSizes
from export.structures.policy import StructurePolicy

WORDS, LONGEST = 40, 6  # of the vocabulary, of a sentence
_TEXT: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0,
}  # fmt: skip
_VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


def config_of(family: str) -> Any:
    """A tiny config of transformers."""
    import transformers as t

    made = {
        "paligemma": lambda: t.PaliGemmaConfig(
            vision_config={"model_type": "siglip_vision_model", **_VISION, "projection_dim": 32},
            text_config={"model_type": "gemma", **_TEXT}, projection_dim=32, hidden_size=32, image_token_index=39,
        ),
        "llava": lambda: t.LlavaConfig(
            vision_config={"model_type": "clip_vision_model", **_VISION, "projection_dim": 32},
            text_config={"model_type": "llama", **_TEXT}, image_token_index=39,
        ),
        "gemma3": lambda: t.Gemma3Config(
            vision_config={"model_type": "siglip_vision_model", **_VISION},
            text_config={"model_type": "gemma3_text", **_TEXT, "sliding_window": 64}, mm_tokens_per_image=4,
        ),
        "internvl": lambda: t.InternVLConfig(
            vision_config={**_VISION, "image_size": [32, 32], "patch_size": [8, 8]},
            text_config={"model_type": "qwen2", **_TEXT}, image_token_id=39,
        ),
        "smolvlm": lambda: t.SmolVLMConfig(
            vision_config=_VISION, text_config={"model_type": "llama", **_TEXT}, scale_factor=2, image_token_id=39
        ),
        "idefics3": lambda: t.Idefics3Config(
            vision_config=_VISION, text_config={"model_type": "llama", **_TEXT}, scale_factor=2, image_token_id=39
        ),
        "idefics": lambda: t.IdeficsConfig(
            **{key: _TEXT[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")},
            num_attention_heads=2, additional_vocab_size=0, cross_layer_interval=1, pad_token_id=0,
            alpha_initializer="ones", max_position_embeddings=256, qk_layer_norms=False, use_resampler=True,
            vision_config={"embed_dim": 32, "image_size": 32, "patch_size": 8, "num_hidden_layers": 2,
                           "num_attention_heads": 2, "intermediate_size": 48},
            perceiver_config={"use_resampler": True, "resampler_n_latents": 4, "resampler_depth": 1,
                              "resampler_n_heads": 2, "resampler_head_dim": 16},
        ),
        "kosmos-2": lambda: t.Kosmos2Config(
            vision_config=_VISION, latent_query_num=4,
            text_config={"vocab_size": WORDS, "embed_dim": 32, "layers": 2, "ffn_dim": 48, "attention_heads": 2,
                         "max_position_embeddings": 256, "pad_token_id": 1, "dropout": 0.0, "activation_dropout": 0.0,
                         "attention_dropout": 0.0, "layerdrop": 0.0},
        ),
        "qwen2_vl": lambda: t.Qwen2VLConfig(
            vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 8,
                           "mlp_ratio": 2, "spatial_merge_size": 2, "temporal_patch_size": 2},
            text_config={**_TEXT, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}},
        ),
    }  # fmt: skip
    return made[family]()


def own_backbone(width: int = 32) -> Ours:
    """The model from scratch."""
    sizes = OwnSizes(WORDS, (32, 32), 16, width, 2, 1, 256)
    return Ours(OwnModel(sizes).eval(), sizes.picture)


def backbone_of(family: str) -> Backbone:
    torch.manual_seed(0)
    if family == "ours":
        return own_backbone()
    made = random_backbone(config_of(family), (32, 32))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1 and not weight.any():  # left at zero: nothing of a picture would pass
                weight.normal_(0, 0.1)
    return made


def tiny_config(structure: str, head: str, window: int = 1, **changes: Any) -> StructureConfig:
    told: dict[str, Any] = {
        "stride": 4, "pictures": 1, "state": 3, "actions": 2, "horizon": 8, "d_max": 2, "width": 32, "heads": 2,
        "steps": 3, "bins": 16, "codes": 8,
    }  # fmt: skip
    return StructureConfig(structure, head, window, **{**told, **changes})


def tiny_policy(structure: str, head: str, window: int = 1, family: str = "ours", **changes: Any) -> StructurePolicy:
    backbone = backbone_of(family)
    torch.manual_seed(1)
    return StructurePolicy(tiny_config(structure, head, window, **changes), backbone).eval()


def rows(policy: StructurePolicy, count: int = 2, moments: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch of rows of moments, with the second sentence shorter than the first."""
    c, generator = policy.config, torch.Generator().manual_seed(seed)
    moments = moments or c.window
    height, width = policy.backbone.picture
    mask = torch.zeros(count, LONGEST)
    for i in range(count):
        mask[i, : LONGEST - 2 * (i % 2)] = 1.0
    tokens = torch.randint(2, 38, (count, LONGEST), generator=generator) * mask.long()
    return {
        "image": torch.rand(count, moments, c.pictures, height, width, 3, generator=generator) * 2 - 1,
        "tokens": tokens,
        "token_mask": mask,
        "state": torch.randn(count, moments, c.state, generator=generator),
        "actions": torch.rand(count, moments, c.horizon, c.actions, generator=generator) * 2 - 1,
        "mask": (torch.arange(c.horizon) < min(c.d_max, 1)).float()[:, None].expand(count, moments, -1, -1),
        "valid": torch.ones(count, moments, c.horizon, 1),
    }
