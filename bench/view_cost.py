"""What one refresh of the live view costs the core it runs on, in processor time.

    python -m bench.view_cost [--json FILE]     some 3 s

Rows of a servo at 1 kHz and four refreshes a second, the arm `metaworld-sawyer`: fold them, collect the moment,
and draw it into memory, 40 lines of 120 columns. Goal: 5 ms.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import profiles
from edgevla.operate.state import Camera, Facts, Joint, Setup, collect, measured_by
from edgevla.operate.tally import Tally, add
from edgevla.operate.view import render
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.rows import inference_dtype, tick_dtype
from edgevla.telemetry.stats import summarise

_TURNS = 300
_ROWS = 250  # 1 kHz at 4 Hz
_GOAL_MS = 5.0


def main() -> int:
    """Print a table; exit code 1 when the median is above the goal."""
    parser = argparse.ArgumentParser(description="Cost of one refresh of the live view")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    fold_ms, draw_ms = _measure()
    figures: dict[str, Any] = {
        "fold_and_collect_ms": summarise(fold_ms).as_dict(),
        "draw_ms": summarise(draw_ms).as_dict(),
        "refresh_ms": summarise(np.add(fold_ms, draw_ms)).as_dict(),
        "goal_ms": _GOAL_MS,
        "host": describe_host(),
    }
    for name in ("fold_and_collect_ms", "draw_ms", "refresh_ms"):
        print(f"{name:20} " + "  ".join(f"{key} {value:.3f}" for key, value in figures[name].items()))
    if arguments.json is not None:
        staging = arguments.json.with_name(f".{arguments.json.name}.new")
        staging.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(staging, arguments.json)
    return int(figures["refresh_ms"]["p50"] > _GOAL_MS)


def _measure() -> tuple[list[float], list[float]]:
    """Processor time of each turn, ms: fold and collect, draw."""
    arm = profiles.load_arm("metaworld-sawyer")
    names = [state.name for state in arm.state]
    joints = tuple(Joint(c.name, c.unit, c.minimum, c.maximum, measured_by(c.name, names)) for c in arm.channels)
    setup = Setup("policy", arm.name, joints, 0.001, 0.025, horizon=32, delay=2)
    facts = Facts(0, "open the drawer", (Camera("corner", 0, 0.1),), recorder="recording")
    console = Console(width=120, height=40, file=io.StringIO(), force_terminal=True)
    random, tally = np.random.default_rng(0), Tally()
    fold_ms, draw_ms = [], []
    for turn in range(_TURNS):
        rows = np.zeros(_ROWS, tick_dtype(len(joints), len(names)))
        rows["tick"] = np.arange(_ROWS) + turn * _ROWS
        rows["deadline_ns"] = rows["tick"] * 1_000_000
        rows["wake_ns"] = rows["deadline_ns"] + random.integers(5_000, 200_000, _ROWS)
        rows["write_ns"] = rows["wake_ns"] + 50_000
        rows["phase"], rows["started"] = 2, rows["tick"] % 8 == 0
        inferences = np.zeros(3, inference_dtype())
        inferences["done_ns"] = random.integers(8_000_000, 20_000_000, 3)
        begun = time.process_time()
        tally = add(tally, rows, inferences, setup.servo_period_s, setup.release_s, setup.delay)
        state = collect(setup, tally, facts)
        folded = time.process_time()
        console.print(render(state))
        draw_ms.append((time.process_time() - folded) * 1e3)
        fold_ms.append((folded - begun) * 1e3)
    return fold_ms, draw_ms


if __name__ == "__main__":
    raise SystemExit(main())
