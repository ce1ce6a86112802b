"""The network of pi0 and pi05: PaliGemma looks at the scene, a smaller Gemma turns noise into actions.

Read it top to bottom: pictures and words become P tokens that all see each other; every layer leaves its keys and
values behind, and the expert's layer of the same number reads them together with its own tokens. In pi0 the state is
the expert's first token; it sees no action, so it is remembered like the scene. In pi05 the state is among the words,
and flow time scales, shifts and gates the expert's layers.

Shapes: B batch, N cameras, M tokens of a picture, L words, P = N * M + L (+ 1 for pi0's state) tokens, n layers,
K key heads, D numbers of a head, E width of the expert, H rows of a chunk, Z = 32 numbers of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.teachers.lerobot.decoder import (
    Attention,
    DecoderLayer,
    DecoderSizes,
    GatedMlp,
    RmsNorm,
    Rotation,
    attend,
    rotate,
    rotation_at,
    stack,
)
from export.teachers.lerobot.flow import TimeWaves, pad_last
from export.teachers.lerobot.siglip import SiglipVision, VisionSizes

Cache = tuple[Tensor, Tensor, Tensor]  # keys and values (B, n, P, K, D), present (B, P) of float 0 or 1
PADDING = -3.0  # what the library puts around a picture in [-1, 1]: it pads with -1 before it scales


@dataclass(frozen=True)
class PiSizes:
    """Sizes of the whole policy, by the names of LeRobot's config where it has them."""

    vision: VisionSizes
    text: DecoderSizes
    expert: DecoderSizes
    vocabulary: int
    five: bool  # pi05
    max_state_dim: int = 32
    max_action_dim: int = 32
    chunk_size: int = 50
    min_period: float = 4e-3
    max_period: float = 4.0


class AdaptiveNorm(nn.Module):
    """x / rms(x), scaled and shifted by a condition (B, L, E), and the gate for what is made of it."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.eps, self.dense = sizes.eps, nn.Linear(sizes.width, 3 * sizes.width)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift, gate = self.dense(condition).chunk(3, dim=-1)
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return normed * (1 + scale) + shift, gate


class AdaptiveLayer(nn.Module):
    """A decoder layer of pi05's expert."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = AdaptiveNorm(sizes), AdaptiveNorm(sizes)
        self.self_attn, self.mlp = Attention(sizes, sizes.width), GatedMlp(sizes)

    def forward(
        self, x: Tensor, condition: Tensor, rotation: Rotation, keys: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        """x (B, L, E) after reading keys and values (B, P, K, D) and its own."""
        normed, gate = self.input_layernorm(x, condition)
        own_keys, own_values = self.self_attn.keys_values(normed)
        keys, values = torch.cat([keys, rotate(own_keys, rotation)], 1), torch.cat([values, own_values], 1)
        found = attend(rotate(self.self_attn.queries(normed), rotation), keys, values, mask)
        x = x + self.self_attn.o_proj(found) * gate
        normed, gate = self.post_attention_layernorm(x, condition)
        return torch.as_tensor(x + self.mlp(normed) * gate)


class PaliGemma(nn.Module):
    """Tower, projector, table of words and layers. The final norm and the language head are read by nobody."""

    def __init__(self, sizes: PiSizes) -> None:
        super().__init__()
        count = (sizes.vision.image // sizes.vision.patch) ** 2
        with torch.device("cpu"):
            places = torch.arange(count)
        self.vision_model = SiglipVision(sizes.vision, places)
        self.projector = nn.Linear(sizes.vision.width, sizes.text.width)
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.text.width)
        self.layers = nn.ModuleList(DecoderLayer(sizes.text) for _ in range(sizes.text.layers))


class Expert(nn.Module):
    def __init__(self, sizes: PiSizes) -> None:
        super().__init__()
        expert = sizes.expert
        make = AdaptiveLayer if sizes.five else DecoderLayer
        self.layers = nn.ModuleList(make(expert) for _ in range(expert.layers))
        self.norm = AdaptiveNorm(expert) if sizes.five else RmsNorm(expert)


class Pi(nn.Module):
    """Pictures, words, state and noise in, velocity of the noise out."""

    def __init__(self, sizes: PiSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.expert.width
        self.vlm, self.expert = PaliGemma(sizes), Expert(sizes)
        self.action_in_proj = nn.Linear(sizes.max_action_dim, width)
        self.action_out_proj = nn.Linear(width, sizes.max_action_dim)
        self.time_mlp_in = nn.Linear(width if sizes.five else 2 * width, width)
        self.time_mlp_out = nn.Linear(width, width)
        self.state_proj = None if sizes.five else nn.Linear(sizes.max_state_dim, width)
        self.time = TimeWaves(width, sizes.min_period, sizes.max_period)

    def see(self, image: Tensor) -> Tensor:
        """Tokens (B, N * M, W) of pictures (B, N, h, w, 3) in [-1, 1], fitted to the tower here."""
        batch, cameras = image.shape[:2]
        pictures = fitted(image.flatten(0, 1), self.sizes.vision.image)
        tokens = self.vlm.projector(self.vlm.vision_model(pictures))
        return torch.as_tensor(tokens).reshape(batch, cameras * tokens.shape[1], -1)

    def remember(self, vision: Tensor, camera_mask: Tensor, tokens: Tensor, token_mask: Tensor, state: Tensor) -> Cache:
        """Keys and values of the scene, and in pi0 of the state as the expert sees it."""
        sizes = self.sizes
        x = torch.cat([vision, self.vlm.embed_tokens(tokens) * sizes.text.width**0.5], dim=1)
        seen = camera_mask.repeat_interleave(vision.shape[1] // camera_mask.shape[1], dim=1)
        present = torch.cat([seen, token_mask], dim=1) > 0
        mask = present[:, None, :] & present[:, :, None]
        rotation = rotation_at(present.long().cumsum(1) - 1, sizes.text.head)
        cache: list[tuple[Tensor, Tensor]] = []
        layers = stack(self.vlm.layers)
        for i, layer in enumerate(layers):
            queries, keys, values = layer.project(x, rotation)
            cache.append((keys, values))
            if i < len(layers) - 1:  # nobody reads what the last layer says
                x = layer.finish(x, attend(queries, keys, values, mask))
        if self.state_proj is not None:
            cache, present = self._with_state(cache, present, self.state_proj(pad_last(state, sizes.max_state_dim)))
        keys, values = (torch.stack(tensors, dim=1) for tensors in zip(*cache, strict=True))
        return keys, values, present.to(x.dtype)

    def _with_state(
        self, cache: list[tuple[Tensor, Tensor]], present: Tensor, state: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """The cache with one token more: the state (B, E), which reads the scene and itself."""
        x, rotation = state[:, None], rotation_at(present.sum(1, keepdim=True), self.sizes.expert.head)
        present = torch.cat([present, torch.ones_like(present[:, :1])], dim=1)
        longer: list[tuple[Tensor, Tensor]] = []
        for layer, (keys, values) in zip(stack(self.expert.layers), cache, strict=True):
            queries, own_keys, own_values = layer.project(x, rotation)
            longer.append((torch.cat([keys, own_keys], 1), torch.cat([values, own_values], 1)))
            x = layer.finish(x, attend(queries, *longer[-1], present[:, None]))
        return longer, present

    def velocity(self, x: Tensor, times: Tensor, cache: Cache) -> Tensor:
        """Velocity (B, H, Z) at rows x (B, H, Z), each at its own time (B, H). All rows see each other."""
        keys, values, present = cache
        rows = torch.arange(x.shape[1], device=x.device)
        rotation = rotation_at(present.sum(1, keepdim=True) + rows, self.sizes.expert.head)
        scene = (present > 0)[:, None].expand(-1, x.shape[1], -1)
        mask = torch.cat([scene, torch.ones_like(scene[..., :1]).expand(-1, -1, x.shape[1])], dim=2)
        actions, waves = self.action_in_proj(x), self.time(times)
        if self.sizes.five:
            return self._adaptive(actions, waves, keys, values, rotation, mask)
        x = torch.cat([actions, waves], dim=-1)
        x = self.time_mlp_out(functional.silu(self.time_mlp_in(x)))
        for j, layer in enumerate(stack(self.expert.layers)):
            queries, own_keys, own_values = layer.project(x, rotation)
            k, v = torch.cat([keys[:, j], own_keys], 1), torch.cat([values[:, j], own_values], 1)
            x = layer.finish(x, attend(queries, k, v, mask))
        return torch.as_tensor(self.action_out_proj(self.expert.norm(x)))

    def _adaptive(
        self, x: Tensor, waves: Tensor, keys: Tensor, values: Tensor, rotation: Rotation, mask: Tensor
    ) -> Tensor:
        condition = functional.silu(self.time_mlp_out(functional.silu(self.time_mlp_in(waves))))
        for j, layer in enumerate(cast("list[AdaptiveLayer]", list(self.expert.layers))):
            x = layer(x, condition, rotation, keys[:, j], values[:, j], mask)
        normed, _ = self.expert.norm(x, condition)
        return torch.as_tensor(self.action_out_proj(normed))


def fitted(image: Tensor, side: int) -> Tensor:
    """Pictures (B, h, w, 3) as squares of `side` pixels: aspect kept, padded on both sides."""
    height, width = image.shape[1:3]
    if (height, width) == (side, side):
        return image
    ratio = max(width / side, height / side)
    size = int(height / ratio), int(width / ratio)
    small = functional.interpolate(image.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False)
    above, left = (side - size[0]) // 2, (side - size[1]) // 2
    around = (left, side - size[1] - left, above, side - size[0] - above)
    return functional.pad(small, around, value=PADDING).permute(0, 2, 3, 1)
