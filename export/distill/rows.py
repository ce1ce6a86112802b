"""How much each row of a chunk counts in training."""

from __future__ import annotations

import torch
from torch import Tensor

ACTING_ROWS = 16  # rows that act when the longest prefix and the usual re-plan interval meet
SPARE_WEIGHT = 0.3  # of the rows behind them, which act only after lost inferences


def row_weights(horizon: int, acting: int = ACTING_ROWS) -> Tensor:
    """float32 (1, H, 1)."""
    rows = torch.arange(horizon)
    return torch.where(rows < acting, 1.0, SPARE_WEIGHT)[None, :, None]
