"""A Perceiver resampler: however many tokens a picture has, so many are left of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.students.layers import Attention, mlp


class Resampler(nn.Module):
    """Tokens (B, N, D) to (B, R, D): learned queries look at the tokens and at each other."""

    def __init__(self, width: int, count: int, heads: int, layers: int = 2) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.02 * torch.randn(count, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.attentions = nn.ModuleList(Attention(width, heads) for _ in range(layers))
        self.mlps = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), mlp(width, 4, nn.GELU)) for _ in range(layers))
        self.norm_tokens, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x, shown = self.latents.expand(len(tokens), -1, -1), self.norm_tokens(tokens)
        for norm, attention, widen in zip(self.norms, self.attentions, self.mlps, strict=True):
            asked = norm(x)
            x = x + attention(asked, attention.keys_values(torch.cat([shown, asked], dim=1)))
            x = x + widen(x)
        found: Tensor = self.norm(x)
        return found
