"""The network of SmolVLA: SmolVLM's first layers look at the scene, a smaller expert turns noise into actions.

Read it top to bottom: pictures, words and state become P tokens; every layer of the language model leaves its keys and
values behind; the expert's layers read them, every n-th together with the expert's own tokens, the others alone.

Shapes: B batch, N cameras, M tokens of a picture, L words, P = N * M + L + 1 tokens, n expert layers, K key heads,
D numbers of a head, W width of the language model, E width of the expert, H rows of a chunk, Z = 32 numbers of a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.teachers.lerobot.decoder import (
    DecoderLayer,
    DecoderSizes,
    RmsNorm,
    attend,
    block_mask,
    rotate,
    rotation_at,
    stack,
)
from export.teachers.lerobot.flow import TimeWaves, pad_last
from export.teachers.lerobot.siglip import PixelShuffleConnector, SiglipVision, VisionSizes, places_by_fraction

Cache = tuple[Tensor, Tensor, Tensor]  # keys and values (B, n, P, K, D), present (B, P) of float 0 or 1

_VISION = VisionSizes()
_TEXT = DecoderSizes(width=960, mlp=2560, layers=32, heads=15, kv_heads=5, head=64)


@dataclass(frozen=True)
class VlmSizes:
    """Sizes of SmolVLM2-500M, as its own config.json says them."""

    vision: VisionSizes = _VISION
    text: DecoderSizes = _TEXT
    vocabulary: int = 49280
    pixel_shuffle: int = 4


@dataclass(frozen=True)
class SmolVlaSizes:
    """Sizes of the whole policy, by the names of LeRobot's config."""

    vlm: VlmSizes = field(default_factory=VlmSizes)
    num_vlm_layers: int = 16
    num_expert_layers: int = -1
    self_attn_every_n_layers: int = 2
    cross_attention: bool = True
    expert_width_multiplier: float = 0.75
    image_side: int = 512  # of the square that the tower is given, pixels
    max_state_dim: int = 32
    max_action_dim: int = 32
    chunk_size: int = 50
    min_period: float = 4e-3
    max_period: float = 4.0
    prefix_length: int = -1
    bfloat16_tower: bool = False  # the arithmetic of the position rows, see `places_by_fraction`

    @property
    def text(self) -> DecoderSizes:
        layers = self.num_vlm_layers if self.num_vlm_layers > 0 else self.vlm.text.layers
        return replace(self.vlm.text, layers=layers)

    @property
    def expert(self) -> DecoderSizes:
        width = int(self.vlm.text.width * self.expert_width_multiplier)
        layers = self.num_expert_layers if self.num_expert_layers > 0 else self.text.layers
        return replace(self.vlm.text, width=width, mlp=_expert_mlp(width), layers=layers)

    @property
    def kv_width(self) -> int:
        return self.vlm.text.kv_heads * self.vlm.text.head

    @property
    def image_tokens(self) -> int:
        """M"""
        return (self.image_side // self.vlm.vision.patch // self.vlm.pixel_shuffle) ** 2

    def crosses(self, layer: int) -> bool:
        """Whether the expert's layer reads the scene alone. Otherwise its own tokens too, as one sequence."""
        every = self.self_attn_every_n_layers
        return self.cross_attention and not (every > 0 and layer % every == 0)

    def places(self) -> Tensor:
        """The row of the position table that each patch takes."""
        vision, dtype = self.vlm.vision, torch.bfloat16 if self.bfloat16_tower else torch.float32
        with torch.device("cpu"):
            return places_by_fraction(self.image_side // vision.patch, vision.image // vision.patch, dtype)

    @property
    def pairs(self) -> list[int]:
        """The language model's layer that each expert layer reads."""
        return list(range(0, self.text.layers, self.text.layers // self.expert.layers))


def _expert_mlp(width: int) -> int:
    """Two thirds of four times the width, up to the next multiple of 256."""
    return 256 * math.ceil(4 * (2 * width // 3) / 256)


class TextModel(nn.Module):
    """The language model up to the last layer that the expert reads. Its final norm is read by nobody."""

    def __init__(self, sizes: DecoderSizes, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, sizes.width)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.layers))


class Vlm(nn.Module):
    def __init__(self, sizes: SmolVlaSizes) -> None:
        super().__init__()
        vlm, vision = sizes.vlm, sizes.vlm.vision
        self.vision_model = SiglipVision(vision, sizes.places())
        self.connector = PixelShuffleConnector(vision.width, vlm.text.width, vlm.pixel_shuffle)
        self.text_model = TextModel(sizes.text, vlm.vocabulary)


class Expert(nn.Module):
    """A stack like the language model's, narrower; the layers that read the scene alone project its keys again."""

    def __init__(self, sizes: SmolVlaSizes) -> None:
        super().__init__()
        expert = sizes.expert
        self.layers = nn.ModuleList(
            DecoderLayer(expert, sizes.kv_width if sizes.crosses(layer) else None) for layer in range(expert.layers)
        )
        self.norm = RmsNorm(expert)


class SmolVla(nn.Module):
    """Pictures, words, state and noise in, velocity of the noise out."""

    def __init__(self, sizes: SmolVlaSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, expert = sizes.text.width, sizes.expert.width
        self.vlm, self.expert = Vlm(sizes), Expert(sizes)
        self.state_proj = nn.Linear(sizes.max_state_dim, width)
        self.action_in_proj = nn.Linear(sizes.max_action_dim, expert)
        self.action_out_proj = nn.Linear(expert, sizes.max_action_dim)
        self.action_time_mlp_in, self.action_time_mlp_out = nn.Linear(2 * expert, expert), nn.Linear(expert, expert)
        self.time = TimeWaves(expert, sizes.min_period, sizes.max_period)

    def see(self, image: Tensor) -> Tensor:
        """Tokens (B, N * M, W) of pictures (B, N, h, w, 3) in [-1, 1]."""
        batch, cameras = image.shape[:2]
        tokens = self.vlm.connector(self.vlm.vision_model(image.flatten(0, 1)))
        return torch.as_tensor(tokens).reshape(batch, cameras * tokens.shape[1], -1)

    def scene(
        self, vision: Tensor, camera_mask: Tensor, tokens: Tensor, token_mask: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the language model reads: x (B, P, W), present (B, P) as bool, block (P,) that each token belongs to."""
        scale = self.sizes.text.width**0.5
        body = self.state_proj(pad_last(state, self.sizes.max_state_dim))[:, None]
        x = torch.cat([vision * scale, self.vlm.text_model.embed_tokens(tokens) * scale, body], dim=1)
        seen = camera_mask.repeat_interleave(vision.shape[1] // camera_mask.shape[1], dim=1)
        present = torch.cat([seen, token_mask, torch.ones_like(seen[:, :1])], dim=1) > 0
        block = (torch.arange(x.shape[1], device=x.device) >= x.shape[1] - 1).long()  # only the state comes later
        missing = self.sizes.prefix_length - x.shape[1]
        if missing > 0:
            x = functional.pad(x, (0, 0, 0, missing))
            present, block = functional.pad(present, (0, missing)), functional.pad(block, (0, missing), value=1)
        return x, present, block

    def remember(self, vision: Tensor, camera_mask: Tensor, tokens: Tensor, token_mask: Tensor, state: Tensor) -> Cache:
        """Keys and values of the scene, as the expert's layers read them."""
        x, present, block = self.scene(vision, camera_mask, tokens, token_mask, state)
        mask = block_mask(present, block)
        rotation = rotation_at(present.long().cumsum(1) - 1, self.sizes.text.head)
        readers = dict(zip(self.sizes.pairs, stack(self.expert.layers), strict=True))
        cache: list[tuple[Tensor, Tensor]] = []
        last = max(readers)
        for i, layer in enumerate(stack(self.vlm.text_model.layers)):
            queries, keys, values = layer.project(x, rotation)
            if i in readers:
                cache.append(self._for_reader(i, readers[i], keys, values))
            if i == last:
                break  # nobody reads what this layer says
            x = layer.finish(x, attend(queries, keys, values, mask))
        keys, values = (torch.stack(tensors, dim=1) for tensors in zip(*cache, strict=True))
        return keys, values, present.to(x.dtype)

    def _for_reader(self, layer: int, reader: DecoderLayer, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, P, K, D); projected for an expert layer that reads the scene alone."""
        if not self.sizes.crosses(layer):
            return keys, values
        attention = reader.self_attn
        new_keys, new_values = attention.k_proj(keys.flatten(2)), attention.v_proj(values.flatten(2))
        return new_keys.reshape(keys.shape), new_values.reshape(values.shape)

    def velocity(self, x: Tensor, times: Tensor, cache: Cache) -> Tensor:
        """Velocity (B, H, Z) at rows x (B, H, Z), each at its own time (B, H)."""
        keys, values, present = cache
        x = torch.cat([self.action_in_proj(x), self.time(times)], dim=-1)
        x = self.action_time_mlp_out(functional.silu(self.action_time_mlp_in(x)))  # (B, H, E)
        rows = torch.arange(x.shape[1], device=x.device)
        scene = (present > 0)[:, None].expand(-1, x.shape[1], -1)  # (B, H, P)
        causal = (rows[None] <= rows[:, None])[None].expand(len(x), -1, -1)  # (B, H, H)
        whole = torch.cat([scene, causal], dim=2)
        alone = rotation_at(rows[None], self.sizes.text.head)
        behind = rotation_at(present.sum(1, keepdim=True) + rows, self.sizes.text.head)
        for j, layer in enumerate(stack(self.expert.layers)):
            k, v = keys[:, j], values[:, j]
            if self.sizes.crosses(self.sizes.pairs[j]):
                queries = layer.self_attn.queries(layer.input_layernorm(x))
                found = attend(rotate(queries, alone), k, v, scene)
            else:
                queries, own_keys, own_values = layer.project(x, behind)
                found = attend(queries, torch.cat([k, own_keys], 1), torch.cat([v, own_values], 1), whole)
            x = layer.finish(x, found)
        return torch.as_tensor(self.action_out_proj(self.expert.norm(x)))
