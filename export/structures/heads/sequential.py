"""Sequential decoding, as the discrete RoboVLMs: the language model says one number of the chunk after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.structures.heads.discrete import Values


class Sequential(nn.Module):
    """Numbers as words of their own: embeddings that go in, scores that come out. n = H * A numbers of a chunk."""

    def __init__(self, width: int, horizon: int, actions: int, values: Values) -> None:
        super().__init__()
        self.horizon, self.actions, self.values = horizon, actions, values
        self.word = nn.Embedding(values.count, width)
        self.begin = nn.Parameter(0.02 * torch.randn(width))
        self.logits = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, values.count))

    @property
    def times(self) -> tuple[float, ...]:
        """One for each number."""
        count = self.horizon * self.actions
        return tuple(i / count for i in range(count))

    def told(self, chunk: Tensor) -> Tensor:
        """What the model hears before it says each number: begin, then all but the last. (B, n, D)."""
        said = self.word(self.values.number(chunk.flatten(1))[:, :-1])
        return torch.cat([self.begin.expand(len(chunk), 1, -1), said], dim=1)

    def scores(self, hidden: Tensor) -> Tensor:
        """(B, n, D) to (B, H, A, bins)."""
        found: Tensor = self.logits(hidden).unflatten(1, (self.horizon, self.actions))
        return found

    def said(self, chunk: Tensor, scores: Tensor, t: Tensor) -> Tensor:
        """The chunk with number t * n in its place, as the scores have it."""
        count = self.horizon * self.actions
        places = torch.arange(count, device=chunk.device).reshape(1, self.horizon, self.actions)
        here = (places == torch.round(t * count).long()[:, None, None]).to(chunk.dtype)
        return chunk * (1.0 - here) + self.values.value(scores) * here
