"""An engine that never rests, and that breaks on demand: sways in x at half speed, end to end, for ever.

What it shall do is written by the suite into the file that EDGEVLA_FAULT names, {"kind": ..., "value": ...}; when it
has begun it writes the time into FILE.begun. A kind that happens once does not happen again in a restarted process.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

HORIZON, CHANNELS, PERIOD_S = 32, 4, 0.0125
SPEED, END = 0.4, 0.3  # m/s, m
ONCE = {"stall", "gc", "nan-once", "inf-once"}


class Swaying:
    """Chunks (32, 4): x on a triangular wave between -0.3 and 0.3 m, the rest stays where it is."""

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, path.with_suffix(".begun")
        self._direction, self._turn = 1.0, 1.0

    def set_instruction(self, text: str) -> None:
        """Every word is welcome."""

    def forget(self) -> None:
        """It remembers nothing."""

    def observe(self, images: object, state: object) -> None:
        """It remembers nothing."""

    def node_providers(self) -> dict[str, dict[str, int]]:
        return {}

    def infer(self, images: object, state: object, prefix: Any) -> Any:
        chunk = np.zeros((HORIZON, CHANNELS), np.float32)
        chunk[: len(prefix)] = prefix
        return chunk

    def to_setpoints(self, chunk: Any, anchor: Any, d: int) -> Any:
        rows = np.tile(np.asarray(anchor, np.float32), (HORIZON, 1))
        if abs(anchor[0]) >= END:
            self._direction = -np.sign(anchor[0])
        x = anchor[0]
        for row in range(d, HORIZON):
            x += self._direction * SPEED * PERIOD_S
            if abs(x) >= END:
                self._direction = -np.sign(x)
            rows[row, 0] = x
        return self._spoiled(rows, d)

    def _spoiled(self, rows: Any, d: int) -> Any:
        try:
            order = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return rows
        kind, value, done = order["kind"], order.get("value", 0), self._begun.exists()
        if kind in ONCE and done:
            return rows
        if not done:
            staging = self._begun.with_suffix(".new")
            staging.write_text(str(time.monotonic_ns()))
            staging.replace(self._begun)
        if kind == "stall":
            time.sleep(value)
        elif kind == "gc":
            threading.Thread(target=storm, args=(value,), daemon=True).start()
        elif kind in ("nan-once", "nan"):
            rows[d:] = np.nan
        elif kind in ("inf-once", "inf"):
            rows[d:, 0] = np.inf
        elif kind == "outside":
            self._turn = -self._turn
            rows[d:] = value * self._turn
        elif kind == "jump":
            self._turn = -self._turn
            rows[d:, 0] = 0.45 * self._turn
            rows[d::2, 1] += 0.2
        return rows


def storm(seconds: float) -> None:
    """Cyclic garbage and full collections, one after the other: each holds the interpreter."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        kept: list[Any] = []
        for _ in range(50_000):
            loop: list[Any] = []
            loop.append(loop)
            kept.append(loop)
        del kept, loop
        gc.collect()


def swaying(config: object) -> Swaying:
    return Swaying(Path(os.environ["EDGEVLA_FAULT"]))
