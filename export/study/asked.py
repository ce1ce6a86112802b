"""What the commands of both studies are asked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, Usage, explain
from edgevla.telemetry.host import host_line

WHOLE = 128  # encoder frames: every recipe halves them, and a step takes 64
SEEDS = 100  # at most
DEMOS = "make demo, or python -m examples.metaworld.demos -o DIR"


def add_options(parser: argparse.ArgumentParser, work: str, out: str) -> None:
    """Those that both have."""
    parser.add_argument("--data", type=Path, default=Path("out/demo/data"), help="demonstrations (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path(work), help="cells, kept (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(out), help="default %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", action="store_true")


def require_sound(seeds: int, frames: int, pairs: int, workers: int, data: Path) -> None:
    """Raises Usage: a number out of range. Raises BadInput: no demonstrations there."""
    for name, value, low, high in (
        ("--seeds", seeds, 1, SEEDS), ("--frames", frames, WHOLE, 10**12), ("--pairs", pairs, 1, 10**6),
        ("--workers", workers, 1, 10**4),
    ):  # fmt: skip
        if not low <= value <= high:
            raise Usage(explain(name, f"{low} to {high}", value, "choose another"))
    if frames % WHOLE:
        raise Usage(explain("--frames", f"a multiple of {WHOLE}", frames, f"take {frames // WHOLE * WHOLE}"))
    if not (data / "dataset.json").is_file():
        raise BadInput(explain("--data", "demonstrations with dataset.json", str(data), DEMOS))


def tell(found: Mapping[str, Any], out: Path) -> None:
    """What stands below the table."""
    for sentence in found["conclusions"]:
        print(sentence)
    print(host_line(found["host"]))
    print(f"wrote {out}")
