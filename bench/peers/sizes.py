"""SmolVLA with less in it: stand-ins of the same architecture where its 450 M are too much to wait for."""

from __future__ import annotations

from typing import Any


def _sizes(
    side: int, vision: int, vision_layers: int, text: int, layers: int, heads: int, chunk: int
) -> dict[str, Any]:
    """Head width 64 (tiny: less), MLPs in the public model's proportions, five queries on three keys."""
    head = 64 if text >= 256 else text // heads
    return {
        "vision": {"width": vision, "mlp": 4 * vision, "layers": vision_layers, "heads": max(2, vision // 64),
                   "image": side},
        "text": {"width": text, "mlp": 8 * text // 3, "layers": layers, "heads": heads, "kv_heads": heads // 3,
                 "head": head},
        "vocabulary": 49280 if text >= 256 else 64,
        "num_vlm_layers": layers,
        "image_side": side,
        "chunk_size": chunk,
        "joints": 6,
        "tokens": 48 if text >= 256 else 8,
    }  # fmt: skip


SIZES = {  # about the number of parameters; the public model: 450m
    "tiny": _sizes(64, 32, 1, 24, 2, 6, 8),
    "60m": _sizes(256, 384, 6, 384, 8, 6, 50),
    "150m": _sizes(384, 512, 12, 576, 16, 9, 50),
}
