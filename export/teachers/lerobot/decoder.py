"""Decoder layers of Llama and Gemma, written so that they export: rotary positions, grouped queries, explicit masks.

Module and parameter names are those of the checkpoints. Shapes: B batch, L queries, S keys, H heads, K key heads,
D numbers of a head, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

ROPE_WAVELENGTH = 10_000.0
Rotation = tuple[Tensor, Tensor]  # cosine and sine, (B, L, 1, D / 2) each


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of a stack of decoder layers."""

    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head: int  # D
    eps: float = 1e-5
    gemma: bool = False  # GELU instead of SiLU, and norms that multiply by 1 + weight


class RmsNorm(nn.Module):
    """x / rms(x) * weight, or * (1 + weight) for Gemma."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.eps, self.offset = sizes.eps, 1.0 if sizes.gemma else 0.0
        self.weight = nn.Parameter(torch.zeros(sizes.width) if sizes.gemma else torch.ones(sizes.width))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x * scale * (self.offset + self.weight)


class Attention(nn.Module):
    """The four projections; `keys_in` is the width that keys and values are made from."""

    def __init__(self, sizes: DecoderSizes, keys_in: int) -> None:
        super().__init__()
        self.head = sizes.head
        self.q_proj = nn.Linear(sizes.width, sizes.heads * sizes.head, bias=False)
        self.k_proj = nn.Linear(keys_in, sizes.kv_heads * sizes.head, bias=False)
        self.v_proj = nn.Linear(keys_in, sizes.kv_heads * sizes.head, bias=False)
        self.o_proj = nn.Linear(sizes.heads * sizes.head, sizes.width, bias=False)

    def queries(self, x: Tensor) -> Tensor:
        """(B, L, H, D)"""
        return torch.as_tensor(self.q_proj(x).unflatten(-1, (-1, self.head)))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, K, D) each"""
        return self.k_proj(x).unflatten(-1, (-1, self.head)), self.v_proj(x).unflatten(-1, (-1, self.head))


class GatedMlp(nn.Module):
    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.gemma = sizes.gemma
        self.gate_proj, self.up_proj = (nn.Linear(sizes.width, sizes.mlp, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(sizes.mlp, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        gate = functional.gelu(gate, approximate="tanh") if self.gemma else functional.silu(gate)
        return torch.as_tensor(self.down_proj(gate * self.up_proj(x)))


class DecoderLayer(nn.Module):
    """One layer in two halves, since its keys and values may be cached, or come from another model."""

    def __init__(self, sizes: DecoderSizes, keys_in: int | None = None) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(sizes), RmsNorm(sizes)
        self.self_attn = Attention(sizes, keys_in or sizes.width)
        self.mlp = GatedMlp(sizes)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, L, H, D), keys and values (B, L, K, D) of x (B, L, W), rotated to their positions."""
        x = self.input_layernorm(x)
        keys, values = self.self_attn.keys_values(x)
        return rotate(self.self_attn.queries(x), rotation), rotate(keys, rotation), values

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer: x (B, L, W), what its queries found (B, L, H * D)."""
        x = x + self.self_attn.o_proj(attended)
        return torch.as_tensor(x + self.mlp(self.post_attention_layernorm(x)))


def stack(layers: nn.ModuleList) -> list[DecoderLayer]:
    """The layers with their type, which a ModuleList does not keep."""
    return cast("list[DecoderLayer]", list(layers))


def rotation_at(positions: Tensor, head: int) -> Rotation:
    """The rotary angles of positions (B, L)."""
    half = head // 2
    wavelengths = ROPE_WAVELENGTH ** ((2.0 / head) * torch.arange(half, dtype=torch.float32, device=positions.device))
    angles = positions.float()[..., None, None] / wavelengths
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x (B, L, heads, D) turned: the first half of D pairs with the second."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """What queries (B, L, H, D) find in keys and values (B, S, K, D) under a boolean mask (B, L, S): (B, L, H * D)."""
    batch, length, heads, head = queries.shape
    groups = heads // keys.shape[2]
    q = (queries * head**-0.5).transpose(1, 2).reshape(batch, -1, groups * length, head)  # (B, K, H / K * L, D)
    scores = torch.matmul(q, keys.permute(0, 2, 3, 1)).unflatten(2, (groups, length))  # (B, K, H / K, L, S)
    scores = torch.where(mask[:, None, None], scores, torch.finfo(scores.dtype).min)
    found = torch.matmul(scores.softmax(-1).flatten(2, 3), values.transpose(1, 2))  # (B, K, H / K * L, D)
    return found.reshape(batch, heads, length, head).transpose(1, 2).flatten(2)


def block_mask(present: Tensor, block: Tensor) -> Tensor:
    """Who may look at whom, (B, L, L): present (B, L) tokens, at blocks (L,) not later than their own."""
    earlier = block[None, None, :] <= block[None, :, None]
    return earlier & present[:, None, :] & present[:, :, None]
