"""Qwen2-VL: patches with a rotary place in two directions, four folded into one; words with a place in three."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, scaled_dot_product_attention

from export.structures.backbone import Backbone


class Qwen2VL(Backbone):
    """transformers' Qwen2VLModel. Its own vision loop splits by lengths in the data; here every picture is one size."""

    family = "qwen2_vl"

    def prepare(self) -> None:
        patch = self.model.config.vision_config.patch_size
        self.grid = (self.picture[0] // patch, self.picture[1] // patch)
        angles = self.vision.rot_pos_emb(torch.tensor([[1, *self.grid]]))
        self.register_buffer("turn", torch.stack([angles.cos(), angles.sin()]), persistent=False)

    @property
    def vision(self) -> Any:
        return self.model.visual

    def tokens(self, pixels: Tensor) -> Tensor:
        tower, merge, (cos, sin) = self.vision, self.vision.spatial_merge_size, self.get_buffer("turn")
        patch = tower.patch_embed.proj.weight.sum(2)  # a picture is shown twice, as a film of two
        x = conv2d(pixels, patch, stride=patch.shape[-1])
        x = x.unflatten(3, (-1, merge)).unflatten(2, (-1, merge)).permute(0, 2, 4, 3, 5, 1).flatten(1, 4)  # by fold
        for block in tower.blocks:
            q, k, v = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
            halves = (t.chunk(2, dim=-1) for t in (q, k))
            q, k = (torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1) for a, b in halves)
            x = x + block.attn.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            x = x + block.mlp(block.norm2(x))
        return tower.merger(x).unflatten(0, (len(pixels), -1))

    def places(self, present: Tensor, moments: int, pictures: int) -> Tensor:
        """int64 (3, B, S): a picture's cells share a time, and what follows starts behind its longer side."""
        rows, columns = (side // self.vision.spatial_merge_size for side in self.grid)
        cell, length = torch.arange(rows * columns), present.shape[1] // moments
        place = torch.arange(length).expand(moments, -1) - 1  # of a token, behind the first word of its moment
        turned = torch.stack([0 * cell, cell // columns, cell % columns]) - cell
        inside = ((place >= 0) & (place < pictures)) * turned[:, place % len(cell)]
        before = place.clamp(0, pictures) // len(cell) + torch.arange(moments)[:, None] * (pictures // len(cell))
        moved = (inside - before * (len(cell) - max(rows, columns))).flatten(1)
        return super().places(present, moments, pictures) + moved[:, None].to(present.device)
