"""A Perceiver resampler: however many tokens a picture has, so many are left of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.students.layers import Attention, mlp


class Layer(nn.Module):
    """Queries (B, R, D) look at tokens (B, N, D) and at each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm_mlp, self.mlp = nn.LayerNorm(width), mlp(width, 4, nn.GELU)

    def forward(self, x: Tensor, shown: Tensor) -> Tensor:
        asked = self.norm(x)
        x = x + self.attention(asked, self.attention.keys_values(torch.cat([shown, asked], dim=1)))
        return x + self.mlp(self.norm_mlp(x))


class Resampler(nn.Module):
    """Tokens (B, N, D) to (B, R, D) by learned queries."""

    def __init__(self, width: int, count: int, heads: int, layers: int = 2) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.02 * torch.randn(count, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm_tokens, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x, shown = self.latents.expand(len(tokens), -1, -1), self.norm_tokens(tokens)
        for layer in self.layers:
            x = layer(x, shown)
        found: Tensor = self.norm(x)
        return found
