"""A policy of the family: backbone, one of the structures, a history, a head. Read it top to bottom.

Shapes: B batch, T moments in a row, P pictures of a moment, N tokens of them, L words, S state, H rows, A actions,
F width behind the backbone.

    one-step      each moment alone                  read -> feature -> head
    interleaved   all moments in one sequence        read (W moments) -> feature of each -> head
    policy-head   each moment alone, then a history  read -> feature -> history -> head

The same weights two ways: `forward` takes rows of moments, for training; `stages` are graphs that take the newest
moment and a memory, for the robot (`export.structures.stages`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from export.structures.backbone import Backbone
from export.structures.config import INTERLEAVED, ONE_STEP, SEQUENTIAL, StructureConfig
from export.structures.heads import make_head
from export.structures.heads.discrete import Values
from export.structures.heads.head import Head, committed
from export.structures.heads.sequential import Sequential
from export.structures.history import History, Newest, Recurrent, Transformer, Window
from export.structures.narrow import Narrow
from export.structures.resampler import Resampler


class StructurePolicy(nn.Module):
    """See the module. `head` is None where the language model itself answers, number after number (`words`)."""

    feels = True  # whether the state is looked at

    def __init__(self, config: StructureConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        width = backbone.width
        self.resampler = Resampler(width, config.resampled, _heads(width)) if config.resampled else None
        self.camera = nn.Parameter(0.02 * torch.randn(config.pictures, 1, width))
        self.body = nn.Linear(config.state, width)
        self.asking = nn.Parameter(0.02 * torch.randn(config.latents, width))
        self.history, asked = make_history(config), config.latents * width
        self.head: Head | None = None
        self.words: Sequential | None = None
        if config.head == SEQUENTIAL:
            self.words = Sequential(width, config.horizon, config.actions, Values(config.bins, config.bound))
        else:
            self.bring: nn.Module = nn.Sequential(nn.LayerNorm(asked), nn.Linear(asked, config.width))
            self.head = make_head(config, self.history.tokens)
        self.narrow = Narrow(config.told, width, config.width) if config.told else None

    def look(self, image: Tensor) -> Tensor:
        """Pictures (B, P, h, w, 3) to tokens (B, P * N, D)."""
        tokens = self.backbone.see(image.flatten(0, 1))
        tokens = tokens if self.resampler is None else self.resampler(tokens)
        return (tokens.unflatten(0, (-1, self.config.pictures)) + self.camera).flatten(1, 2)

    @property
    def asked(self) -> int:
        """K: how many tokens `queries` makes."""
        return int(self.feels) + self.config.latents

    def queries(self, state: Tensor) -> Tensor:
        """What asks, of states (B, T, S): one token of the body, then the latents. (B, T, K, D)."""
        body = self.body(state)[:, :, None]
        return torch.cat([body, self.asking.expand(*state.shape[:2], -1, -1)], dim=2)

    def read(
        self, vision: Tensor, words: Tensor, there: Tensor, queries: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """Features (B, T, F) of moments that are read together. known: (B, T), 1 where a moment is there."""
        hidden = self.backbone.read(vision, words, there, queries, known)[:, :, -self.config.latents :]
        found: Tensor = self.bring(hidden.flatten(2))
        return found if self.narrow is None else self.narrow(found, words, there, queries[:, :, 0])

    def features(self, image: Tensor, words: Tensor, there: Tensor, state: Tensor) -> Tensor:
        """Features (B, T, F) of rows of moments: image (B, T, P, h, w, 3), words (B, L, D), state (B, T, S)."""
        moments = image.shape[1]
        vision, queries = self.look(image.flatten(0, 1)).unflatten(0, (-1, moments)), self.queries(state)
        if self.config.structure == INTERLEAVED:
            return self.read(vision, words, there, queries)
        alone = [x.flatten(0, 1)[:, None] for x in (vision, queries)]
        heard, padded = (x.repeat_interleave(moments, 0) for x in (words, there))
        return self.read(alone[0], heard, padded, alone[1])[:, 0].unflatten(0, (-1, moments))

    def contexts(self, image: Tensor, words: Tensor, there: Tensor, state: Tensor) -> Tensor:
        """What the head reads at each moment, (B, T, M, F)."""
        return self.history.over(self.features(image, words, there, state))

    def told(self, found: Tensor, words: Tensor, there: Tensor, state: Tensor) -> Tensor:
        """The same of a policy that is told where things are, from what it found in the pictures before: (B, T, K)."""
        if self.narrow is None:
            raise TypeError("this policy is not told where things are")
        return self.history.over(self.narrow.told(found, words, there, self.queries(state)[:, :, 0]))

    def say(self, vision: Tensor, words: Tensor, there: Tensor, state: Tensor, chunk: Tensor) -> Tensor:
        """Scores (B, H, A, bins) of each number by the language model, which hears those of the chunk before it."""
        saying = self.saying
        queries = torch.cat([self.queries(state[:, None]), saying.told(chunk)[:, None]], dim=2)
        hidden = self.backbone.read(vision[:, None], words, there, queries)[:, 0]
        return saying.scores(hidden[:, -self.config.horizon * self.config.actions :])

    @property
    def saying(self) -> Sequential:
        """The words of a policy whose language model answers."""
        if self.words is None:
            raise TypeError(f"head {self.config.head} does not speak")
        return self.words

    @property
    def answering(self) -> Head:
        """The head of any other."""
        if self.head is None:
            raise TypeError(f"head {self.config.head} is the language model's own")
        return self.head

    @property
    def noisy(self) -> bool:
        """Whether an answer starts from noise (1, H, A)."""
        return self.head is None or self.head.noise

    def act(self, inputs: Mapping[str, Tensor], noise: Tensor, prefix: Tensor, mask: Tensor) -> Tensor:
        """The chunk (B, H, A) of the newest of the moments in a row: image (B, T, P, h, w, 3), state (B, T, S)."""
        words = self.backbone.hear(inputs["tokens"])
        image, state, there = inputs["image"], inputs["state"], inputs["token_mask"]
        if self.head is not None:
            return self.head.answer(self.contexts(image, words, there, state)[:, -1], noise, prefix, mask)
        return self.speak(self.look(image[:, -1]), words, there, state[:, -1], noise, prefix, mask)

    def speak(
        self, vision: Tensor, words: Tensor, there: Tensor, state: Tensor, noise: Tensor, prefix: Tensor, mask: Tensor
    ) -> Tensor:
        """The chunk (B, H, A) that the language model says, number after number; `noise` is what is written over."""
        chunk = committed(noise, prefix, mask)
        for t in self.saying.times:
            scores = self.say(vision, words, there, state, chunk)
            chunk = committed(self.saying.said(chunk, scores, torch.full((1,), t)), prefix, mask)
        return chunk


def make_history(config: StructureConfig) -> History:
    """Of a policy head what its head asks for; of the other structures nothing is left to remember behind the backbone.

    An LSTM or a transformer as a head stands there with a window of 1 too, so that only the structure differs.
    """
    behind = 1 if config.structure in (ONE_STEP, INTERLEAVED) else config.window
    if config.head == "lstm":
        return Recurrent(behind, config.width, config.recurrent_layers)
    if config.head == "gpt":
        return Transformer(behind, config.width, max(config.layers, 2), config.heads)
    return Newest(1, config.width) if behind == 1 else Window(behind, config.width)


def _heads(width: int) -> int:
    """Of an attention over that width: heads of 64 where it divides."""
    return next(heads for heads in (max(width // 64, 1), 4, 2, 1) if width % heads == 0)
