"""What a policy head makes of the moments before: nothing, all of them, or a state of an LSTM or a transformer.

Shapes: B batch, T moments in a row (T <= W, oldest first), W window, F features of a moment, M tokens of a context.

Two ways to the same numbers. `over` takes a row of moments at once, for training: at moment t it knows t and what came
before in the row. `step` takes the newest moment and a memory, for the robot: constant cost, no loop over the past.
A blank memory (zeros) is a start: the window grows until it is full.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from export.students.layers import EncoderBlock


class History(nn.Module, ABC):
    """features (B, T, F) -> context (B, T, M, F)."""

    tokens: int  # M
    out: int  # width of a context; F but for a `Recurrent` of another

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.window, self.width, self.tokens, self.out = window, width, 1, width

    @property
    @abstractmethod
    def memory(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, batch 1, of what `step` takes and answers besides; none at all where window is 1."""

    @abstractmethod
    def over(self, features: Tensor) -> Tensor:
        """Context (B, T, M, F) of each moment of a row (B, T, F)."""

    @abstractmethod
    def step(self, feature: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        """Context (1, M, F) of the newest moment (1, F), and the memory for the next."""


class Newest(History):
    """No history: the newest moment alone."""

    memory: dict[str, tuple[int, ...]] = {}  # noqa: RUF012

    def over(self, features: Tensor) -> Tensor:
        return features[:, :, None]

    def step(self, feature: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        return (feature[:, None],)


class Window(History):
    """The moments themselves, each with its place."""

    def __init__(self, window: int, width: int) -> None:
        super().__init__(window, width)
        self.tokens = window
        self.position = nn.Parameter(0.02 * torch.randn(window, width))
        self.absent: nn.Parameter | None = nn.Parameter(0.02 * torch.randn(width))  # a moment that was not yet

    @property
    def memory(self) -> dict[str, tuple[int, ...]]:
        return {"past": (1, self.window - 1, self.width + 1)} if self.window > 1 else {}

    def over(self, features: Tensor) -> Tensor:
        known = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
        rows = nn.functional.pad(known, (0, 0, self.window - 1, 0)).unfold(1, self.window, 1)  # (B, T, F + 1, W)
        return self._placed(rows.transpose(2, 3))

    def step(self, feature: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        newest = torch.cat([feature, torch.ones_like(feature[:, :1])], dim=-1)[:, None]
        rows = torch.cat([*memory, newest], dim=1)
        return (self._placed(rows), rows[:, 1:]) if memory else (self._placed(rows),)

    def _placed(self, rows: Tensor) -> Tensor:
        """(..., W, F + 1), whose last number says whether the moment is there, to tokens (..., W, F)."""
        there = rows[..., -1:]
        placed = rows[..., :-1] * there + self.position
        return placed if self.absent is None else placed + self.absent * (1.0 - there)


class Transformer(Window):
    """A small causal transformer over the window; its newest output is the context."""

    def __init__(self, window: int, width: int, layers: int, heads: int) -> None:
        super().__init__(window, width)
        self.tokens, self.absent = 1, None  # nobody looks at a moment that was not yet
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, 4, nn.GELU) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def _placed(self, rows: Tensor) -> Tensor:
        tokens = super()._placed(rows)
        hidden, there = tokens.flatten(0, -3), rows[..., -1].flatten(0, -2)
        mask = ((1.0 - there) * -1e9)[:, None, None]
        for block in self.blocks:
            hidden = block(hidden, mask)
        return self.norm(hidden[:, -1:]).unflatten(0, rows.shape[:-2])


class Recurrent(History):
    """An LSTM over the last W moments, begun anew for each window, as RoboVLMs evaluates it.

    They run the whole window again at every step. Here W states are kept, one for each moment that a window may have
    begun at: every tick each takes the newest moment in, side by side, and the oldest one has seen the whole window and
    leaves. The same numbers, and no longer chain than one moment.
    """

    def __init__(self, window: int, width: int, layers: int, hidden: int | None = None) -> None:
        super().__init__(window, width)
        self.out = hidden or width
        self.rnn = nn.LSTM(width, self.out, layers, batch_first=True)

    @property
    def memory(self) -> dict[str, tuple[int, ...]]:
        shape = (self.rnn.num_layers, self.window, self.out)
        return {"hidden": shape, "cell": shape} if self.window > 1 else {}

    def over(self, features: Tensor) -> Tensor:
        rows = features.flatten(0, 1)[:, None] if self.window == 1 else features
        found: Tensor = self.rnn(rows)[0]
        return found.reshape(*features.shape[:2], 1, self.out)

    def step(self, feature: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        x = feature.expand(self.window, -1)  # the newest moment for each window that is open
        blank = feature.new_zeros(self.rnn.num_layers, self.window, self.out)
        hidden, cell = memory or (blank, blank)
        hiddens, cells = [], []
        for layer in range(self.rnn.num_layers):
            x, c = self._cell(layer, x, hidden[layer], cell[layer])
            hiddens.append(x)
            cells.append(c)
        context = x[-1:][:, None]  # of the window that began first
        return (context, _aged(torch.stack(hiddens)), _aged(torch.stack(cells))) if memory else (context,)

    def _cell(self, layer: int, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One step of a layer for every open window: what torch's LSTM computes, as two matrix products."""
        into, again = (getattr(self.rnn, f"weight_{kind}_l{layer}") for kind in ("ih", "hh"))
        bias = getattr(self.rnn, f"bias_ih_l{layer}") + getattr(self.rnn, f"bias_hh_l{layer}")
        gates = nn.functional.linear(x, into) + nn.functional.linear(hidden, again) + bias
        i, f, g, o = gates.chunk(4, dim=-1)
        kept = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(kept), kept


def _aged(states: Tensor) -> Tensor:
    """(layers, W, F): every window is a moment older, the full one leaves, a blank one begins."""
    return torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
