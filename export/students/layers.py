"""Transformer pieces shared by teacher and student. Shapes: B batch, N tokens, W width."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention whose keys and values can be computed once and reused."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, W / heads)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a context (B, M, W), each (B, heads, M, W / heads)."""
        return self._split(self.key(context)), self._split(self.value(context))

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        # Written out: at these lengths torch's fused CPU kernel is 3 times slower in the backward pass.
        keys, values = keys_values
        query = self._split(self.query(x)) * (keys.shape[-1] ** -0.5)
        scores = query @ keys.transpose(-1, -2)
        attended = torch.softmax(scores if mask is None else scores + mask, dim=-1).to(values.dtype) @ values
        return self.out(attended.transpose(1, 2).flatten(2))


def mlp(width: int, ratio: int, activation: type[nn.Module]) -> nn.Sequential:
    """Two linear layers with `ratio * width` hidden units."""
    return nn.Sequential(nn.Linear(width, ratio * width), activation(), nn.Linear(ratio * width, width))


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP over (B, N, W)."""

    def __init__(self, width: int, heads: int, ratio: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp(width, ratio, activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        normed = self.norm_attention(x)
        x = x + self.attention(normed, self.attention.keys_values(normed), mask)
        return x + self.mlp(self.norm_mlp(x))


class DecoderBlock(nn.Module):
    """Self-attention among action tokens, cross-attention to the observation, MLP."""

    def __init__(self, width: int, heads: int, ratio: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp(width, ratio, activation)

    def forward(self, x: Tensor, observation: tuple[Tensor, Tensor]) -> Tensor:
        normed = self.norm_self(x)
        x = x + self.self_attention(normed, self.self_attention.keys_values(normed))
        x = x + self.cross_attention(self.norm_cross(x), observation)
        return x + self.mlp(self.norm_mlp(x))


class TextEncoder(nn.Module):
    """Word ids (B, L), 0 = padding, to one instruction token (B, 1, W)."""

    def __init__(self, vocabulary: int, max_tokens: int, width: int, inner: int = 128) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, inner)
        self.position = nn.Parameter(0.02 * torch.randn(max_tokens, inner))
        self.block = EncoderBlock(inner, heads=4, ratio=2, activation=nn.GELU)
        self.out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        present = (tokens != 0).to(self.position.dtype)  # (B, L)
        hidden = self.word(tokens) + self.position
        hidden = self.block(hidden, mask=((1.0 - present) * -1e4)[:, None, None, :])
        weights = present / present.sum(dim=1, keepdim=True).clamp_min(1.0)
        return self.out((hidden * weights[..., None]).sum(dim=1, keepdim=True))


class ActionTokens(nn.Module):
    """Rows of a chunk (B, H, R) with their prefix mask (B, H, 1) to tokens of `ticks` rows each, and back to (B, H, A).

    numbers: R of a row that comes in, where noise is wider than an action; left out, A.
    """

    def __init__(self, horizon: int, actions: int, ticks: int, width: int, numbers: int | None = None) -> None:
        super().__init__()
        if horizon % ticks:
            raise ValueError(f"horizon: expected a multiple of {ticks} ticks per token, got {horizon}")
        self.ticks, self.actions = ticks, actions
        self.embed = nn.Linear(ticks * ((numbers or actions) + 1), width)
        self.position = nn.Parameter(0.02 * torch.randn(horizon // ticks, width))
        self.norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, ticks * actions)

    def forward(self, x: Tensor, prefix_mask: Tensor) -> Tensor:
        stacked = torch.cat([x, prefix_mask], dim=-1)
        return self.embed(stacked.unflatten(1, (-1, self.ticks)).flatten(2)) + self.position

    def back(self, tokens: Tensor) -> Tensor:
        return self.unembed(self.norm(tokens)).unflatten(2, (self.ticks, self.actions)).flatten(1, 2)


class PatchStem(nn.Module):
    """Pictures (B * P, h, w, 3) to (B, P * N, W): cut into N patches, two linear layers; the P of a row lie in a row.

    No convolution: int8 makes those slower. The mean picture is taken off first, one for each of the P, and the first
    layer starts as a whitening of what is left (`whiten`): a fixed camera shows the same background in every frame,
    and what matters is a small deviation from it. An int for the size means a square.
    """

    mean: Tensor

    def __init__(self, size: int | tuple[int, int], patch: int, width: int, pictures: int = 1) -> None:
        super().__init__()
        height, wide = (size, size) if isinstance(size, int) else size
        if height % patch or wide % patch:
            raise ValueError(f"picture: expected sides that are multiples of {patch} pixels, got {height} x {wide}")
        self.grid, self.patch, self.pictures = (height // patch, wide // patch), patch, pictures
        several = () if pictures == 1 else (pictures,)
        self.register_buffer("mean", torch.zeros(*several, height, wide, 3))
        self.embed = nn.Linear(patch * patch * 3, width)
        self.mix = nn.Linear(width, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], width))

    def patches(self, image: Tensor) -> Tensor:
        """(B * P, h, w, 3) less the mean pictures, cut to (B, P, N, patch * patch * 3)."""
        (rows, columns), patch = self.grid, self.patch
        shown = image.unflatten(0, (-1, self.pictures)) - self.mean
        cut = shown.reshape(-1, self.pictures, rows, patch, columns, patch * 3).transpose(3, 4)
        return cut.reshape(-1, self.pictures, rows * columns, patch * patch * 3)

    def forward(self, image: Tensor) -> Tensor:
        x = (self.embed(self.patches(image)) + self.position).flatten(1, 2)
        return x + self.mix(torch.relu(x))

    @torch.no_grad()
    def whiten(self, images: Tensor, floor: float = 0.05) -> None:
        """Starts from data: `mean` is that of the pictures (B * P, h, w, 3), `embed` projects on main components.

        floor: share of the largest deviation below which a component is not scaled up further.
        """
        self.mean = images.unflatten(0, (-1, self.pictures)).mean(0).reshape_as(self.mean)
        flat = self.patches(images).flatten(0, 2)
        values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        width = min(self.embed.out_features, len(values))
        deviation = values[-width:].flip(0).clamp_min(0).sqrt()
        self.embed.weight[:width] = (vectors[:, -width:].flip(1) / deviation.clamp_min(floor * float(deviation[0]))).T
        self.embed.bias.zero_()


class ConvStem(nn.Module):
    """Pictures (B, h, w, 3) less their mean to (B, N, W): convolutions down to a token for `stride` x `stride` pixels.

    For what is small in the picture: a patch of `PatchStem` says badly where in it a thing is. Without a norm between:
    so few layers train without, and the graph stays three kinds of operation. The coarser stride costs a convolution
    more and leaves the layers behind it a quarter of the tokens.
    """

    STRIDES = (16, 32)
    mean: Tensor

    def __init__(self, size: tuple[int, int], stride: int, width: int) -> None:
        super().__init__()
        height, wide = size
        if stride not in self.STRIDES or height % stride or wide % stride:
            raise ValueError(f"picture: expected sides that are multiples of 16 or 32, got {height} x {wide}, {stride}")
        self.grid = (height // stride, wide // stride)
        self.register_buffer("mean", torch.zeros(height, wide, 3))
        self.cut = nn.Conv2d(3, 64, 6, 4, 1)  # overlapping, so that an edge between two cells is seen by both
        self.down = nn.Conv2d(64, 128, 3, 2, 1)
        self.mix = nn.Conv2d(128, 128, 3, 1, 1)
        self.deeper = nn.Conv2d(128, width, 3, 2, 1) if stride == self.STRIDES[1] else None
        self.out = nn.Conv2d(128 if self.deeper is None else width, width, 3, 2, 1)
        self.position = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], width))

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.cut((image - self.mean).permute(0, 3, 1, 2)))
        x = torch.relu(self.down(x))
        x = x + torch.relu(self.mix(x))
        x = x if self.deeper is None else torch.relu(self.deeper(x))
        return self.out(x).flatten(2).transpose(1, 2) + self.position

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Starts from data: `mean` is that of the pictures (B, h, w, 3)."""
        self.mean = images.mean(0)


def blocks(stack: nn.ModuleList) -> Iterator[DecoderBlock]:
    """The decoder blocks of a module list, typed."""
    for block in stack:
        if not isinstance(block, DecoderBlock):
            raise TypeError(f"expected a DecoderBlock, got {type(block).__name__}")
        yield block
