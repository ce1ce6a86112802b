"""The vision tower of SmolVLA and pi0: SigLIP, written so that it exports (no data-dependent branches).

Module and parameter names are those of the checkpoints, so that no table of names is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class VisionSizes:
    """Sizes of the tower. `image` is the side of the square that the position table was made for, pixels."""

    width: int = 768
    mlp: int = 3072
    layers: int = 12
    heads: int = 12
    image: int = 512
    patch: int = 16
    eps: float = 1e-6


class Embeddings(nn.Module):
    """Picture (B, h, w, 3) to patches (B, n, W) with their positions added."""

    def __init__(self, sizes: VisionSizes, places: Tensor) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)
        self.position_embedding = nn.Embedding((sizes.image // sizes.patch) ** 2, sizes.width)
        self.register_buffer("places", places, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embedding(image.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        return torch.as_tensor(patches + self.position_embedding(self.places))


class Attention(nn.Module):
    """Every patch looks at every patch."""

    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(sizes.width, sizes.width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        head = x.shape[-1] // self.heads
        # Scaling the queries is n times cheaper than scaling the scores (B, n, n). One head at a time: its scores stay
        # in the cache, which made ONNX Runtime 1.8 times as fast here as all heads at once (n = 1024).
        queries = (self.q_proj(x) * head**-0.5).split(head, dim=-1)  # heads of (B, n, D)
        keys, values = self.k_proj(x).split(head, dim=-1), self.v_proj(x).split(head, dim=-1)
        found = [
            torch.matmul(torch.matmul(q, k.transpose(1, 2)).softmax(-1), v)
            for q, k, v in zip(queries, keys, values, strict=True)
        ]
        return torch.as_tensor(self.out_proj(torch.cat(found, dim=-1)))


class Mlp(nn.Module):
    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(sizes.width, sizes.mlp), nn.Linear(sizes.mlp, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.fc2(functional.gelu(self.fc1(x), approximate="tanh")))


class EncoderLayer(nn.Module):
    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(sizes.width, eps=sizes.eps) for _ in range(2))
        self.self_attn, self.mlp = Attention(sizes), Mlp(sizes)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return torch.as_tensor(x + self.mlp(self.layer_norm2(x)))


class Encoder(nn.Module):
    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class SiglipVision(nn.Module):
    """Pictures (B, h, w, 3) in [-1, 1] to patches (B, n, W). `places` (n,) says which row of the table each takes."""

    def __init__(self, sizes: VisionSizes, places: Tensor) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes, places)
        self.encoder = Encoder(sizes)
        self.post_layernorm = nn.LayerNorm(sizes.width, eps=sizes.eps)

    def forward(self, image: Tensor) -> Tensor:
        return torch.as_tensor(self.post_layernorm(self.encoder(self.embeddings(image))))


class PixelShuffleConnector(nn.Module):
    """Squares of `factor` x `factor` patches become one token of the language model: (B, n, W) to (B, n / f^2, T)."""

    def __init__(self, vision_width: int, text_width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.modality_projection = nn.ModuleDict(
            {"proj": nn.Linear(vision_width * factor**2, text_width, bias=False)}  # named as in the checkpoints
        )

    def forward(self, patches: Tensor) -> Tensor:
        batch, count, width = patches.shape
        side, f = round(count**0.5), self.factor
        squares = patches.reshape(batch, side // f, f, side // f, f, width).permute(0, 1, 3, 2, 4, 5)
        tokens = squares.reshape(batch, count // f**2, f * f * width)
        return torch.as_tensor(self.modality_projection["proj"](tokens))


def places_by_fraction(count: int, table: int, dtype: torch.dtype) -> Tensor:
    """Rows of a position table `table` x `table` for a picture of `count` x `count` patches: int64 (count^2,).

    SmolVLM buckets each patch by its fraction of the picture, in the arithmetic of the weights. In FP32 the fraction
    falls just below the boundary (transformers 4.57), so every patch after the first takes the row of its neighbour;
    in bfloat16 it does not. A policy must be given the rows that it was run with: `dtype` is that of its tower.
    """
    boundaries = torch.arange(1 / table, 1.0, 1 / table)
    fraction = torch.arange(count, dtype=dtype) / torch.tensor(count) * (1 - 1e-6)
    bucket = torch.bucketize(fraction, boundaries, right=True)
    return (bucket[:, None] * table + bucket).flatten()
