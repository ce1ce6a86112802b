"""Curves for TensorBoard, written by tensorboardX where it is installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


class Board:
    """Scalars by training step in a folder that TensorBoard reads.

    Without tensorboardX it says so once and writes nothing: the JSON lines beside it hold the same figures.
    """

    def __init__(self, folder: Path, active: bool = True) -> None:
        self._writer: Any = None
        if not active:
            return
        try:
            module = importlib.import_module("tensorboardX")
        except ModuleNotFoundError:
            print("no TensorBoard logs: pip install tensorboardX (in edgevla[export])", file=sys.stderr)
            return
        self._writer = module.SummaryWriter(str(folder), flush_secs=10)

    def add(self, step: int, **values: float) -> None:
        """One point on each named curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes out what is buffered."""
        if self._writer is not None:
            self._writer.close()
