"""The real servo loop on the same virtual arm, in a process of its own: when each command had been written.

    python -m bench.peers.our_loop --port /dev/pts/3 --fps 30 --seconds 12 --out window.npz [--best-effort]

`edgevla.control.run` as `edgevla run` calls it: servo, policy and guardian processes, limiter, ladder, watchdogs; the
policy is a few lines (`bench.peers.sway`). One servo step per control period, so that both loops send alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import profiles
from bench.plans import TARGET
from bench.processes import CpuWatch
from edgevla.control.ladder import MOVABLE
from edgevla.control.options import RunOptions
from edgevla.control.plan import RunPlan
from edgevla.control.run import run
from edgevla.control.schedule import Schedule
from edgevla.errors import EdgevlaError

ARM = "so101"


def sway_plan(fps: float) -> RunPlan:
    """The SO-101 without cameras, driven by `bench.peers.sway`, one servo step per control period."""
    arm, target = profiles.load_arm(ARM), profiles.load_target(TARGET)
    channels = len(arm.channels)
    return RunPlan(
        policy="sway",
        bundle="none",
        engine="bench.peers.sway:sway",
        arm=replace(arm, cameras=()),
        target=replace(target, servo_ratio=1),
        schedule=Schedule(horizon=32, delay=2, replan=8, survive=2),
        blend_ticks=None,
        period_s=1 / fps,
        kinds=("absolute",) * channels,
        scale=(1.0,) * channels,
        offset=(0.0,) * channels,
        start_low=arm.start_low,
        start_high=arm.start_high,
        observations=1,
        cameras=(),
    )


def main() -> int:
    """The last line says what the run was; exit code of edgevla."""
    asked = _arguments()
    options = RunOptions(
        instruction="sway", port=asked.port, duration_s=asked.seconds, best_effort=asked.best_effort
    )  # fmt: skip
    watch = CpuWatch("edgevla.control.servo")
    threading.Thread(target=watch.run, daemon=True).start()
    try:
        found = run(sway_plan(asked.fps), options)
    except EdgevlaError as error:
        print(json.dumps({"event": "error", "message": str(error)}))
        return error.exit_code
    rows = found.ticks[np.isin(found.ticks["phase"], sorted(MOVABLE))]
    rows = rows[rows["write_ns"] > 0]
    with asked.out.open("wb") as file:
        np.savez(file, write_ns=rows["write_ns"], wake_ns=rows["wake_ns"] - rows["deadline_ns"])
    told: dict[str, Any] = {"event": "measured", "cpu_share": watch.share, "reason": found.stop_reason}
    told |= {key: found.figures["loop"][key] for key in ("late_commands", "misses")}
    told["granted"] = found.figures["real_time"]
    print(json.dumps(told))
    return found.exit_code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.our_loop")
    parser.add_argument("--port", required=True)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--best-effort", action="store_true", help="without real-time priority")
    parser.add_argument("--out", type=Path, required=True, help="where the times go, .npz, ns")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
