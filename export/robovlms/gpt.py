"""The GPT-2 behind a policy head of RoboVLMs, by the names of its checkpoints: `fc`, `gpt.wpe`, `gpt.h.N`, `gpt.ln_f`.

It looks at the features of the last W moments, the oldest of them always at place 0; so what is remembered are the
features, and the network runs over the window again at every tick: the same cost each time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from export.structures.history import Window

LAYERS, HEADS = 8, 8  # its authors' own; no project file says others
_FAR = -1e9


class Gpt(Window):
    """History (B, T, F) -> (B, T, 1, hidden). Raises ValueError: a width that its heads do not divide."""

    def __init__(self, window: int, width: int, hidden: int, layers: int = LAYERS, heads: int = HEADS) -> None:
        nn.Module.__init__(self)
        if hidden % heads:
            raise ValueError(f"hidden_size {hidden}: expected a multiple of {heads}")
        self.window, self.width, self.out, self.tokens = window, width, hidden, 1
        self.fc = nn.Linear(width, hidden) if width != hidden else nn.Identity()
        self.gpt = _Network(window, hidden, layers, heads)

    @property
    def memory(self) -> dict[str, tuple[int, ...]]:
        return {"past": (1, self.window - 1, self.out + 1)} if self.window > 1 else {}

    def over(self, features: Tensor) -> Tensor:
        return super().over(self.fc(features))

    def step(self, feature: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        return super().step(self.fc(feature), *memory)

    def _placed(self, rows: Tensor) -> Tensor:
        """(..., W, F + 1), whose last number says whether the moment is there, to the newest output (..., 1, F)."""
        hidden, there = rows[..., :-1].flatten(0, -3), rows[..., -1].flatten(0, -2)
        return self.gpt(hidden, there)[:, -1:].unflatten(0, rows.shape[:-2])


class _Network(nn.Module):
    def __init__(self, window: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.wpe = nn.Embedding(window, width)
        self.h = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """x (N, W, F), there (N, W): 0 for moments that were not yet; they come first and nobody looks at them."""
        place = (there.cumsum(1) - 1.0).clamp(min=0.0).long()
        x = x + self.wpe(place)
        later = torch.ones(x.shape[1], x.shape[1], dtype=x.dtype).triu(1)
        mask = (_FAR * later + _FAR * (1.0 - there)[:, None])[:, None]
        for block in self.h:
            x = block(x, mask)
        found: Tensor = self.ln_f(x)
        return found


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.c_attn, self.c_proj = heads, Conv1D(3 * width, width), Conv1D(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, dim=-1))
        weight = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + mask, dim=-1)
        found: Tensor = self.c_proj((weight @ v).transpose(1, 2).flatten(2))
        return found


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), _Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": Conv1D(4 * width, width), "c_proj": Conv1D(width, 4 * width)})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), mask)
        wide = nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        found: Tensor = x + self.mlp["c_proj"](wide)
        return found
