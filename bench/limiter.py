"""Processor time of one limiter call, by case: ``python -m bench.limiter [--json FILE]``. About 10 s.

CPU time of the process, best of five: what a call costs, not what a busy host adds to it.
"""

from __future__ import annotations

import argparse
import json
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

import profiles
from edgevla.control.limiter import Limits, Motion, limits_of, slow_down, track

CALLS = 5_000
JOINTS = 7
STEP_S = 0.001


def cases() -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    sawyer = limits_of(profiles.load_arm("metaworld-sawyer"), 0.0125)
    start = Motion.at_rest(np.array([0.0, 0.6, 0.2, -1.0]))
    near, far = start.setpoint + np.array([0.005, 0.0, 0.0, 0.0]), np.array([0.3, 0.9, 0.4, 1.0])
    joints = soft_joints()
    following, aim = _follow(joints, lambda t: 0.1 * np.sin(0.1 * np.arange(JOINTS) + t), 3_000)
    at_end, end = _follow(joints, lambda t: np.full(JOINTS, 4.0), 1_650)
    return {
        "4 channels, nothing limited": lambda: track(sawyer, start, near, 0.0125),
        "4 channels, a jump": lambda: track(sawyer, start, far, 0.0125),
        "7 joints, on the target": lambda: track(joints, following, aim, STEP_S),
        "7 joints, all catching up": lambda: track(joints, following, aim + 0.05, STEP_S),
        "7 joints, all braking before their ends": lambda: track(joints, at_end, end, STEP_S),
        "7 joints, a stop": lambda: slow_down(joints, following, STEP_S),
    }


def soft_joints() -> Limits:
    """Seven joints of a common arm: 2 rad/s, 10 rad/s^2, 100 rad/s^3."""
    low, high, velocity, acceleration, jerk, stop = (np.full(JOINTS, x) for x in (-2.9, 2.9, 2.0, 10.0, 100.0, 5.0))
    return Limits(low, high, velocity, acceleration, jerk, stop, STEP_S)


def _follow(limits: Limits, aim: Callable[[float], np.ndarray], steps: int) -> tuple[Motion, np.ndarray]:
    motion = Motion.at_rest(np.zeros(JOINTS))
    for step in range(steps):
        motion, _ = track(limits, motion, aim(step * STEP_S), STEP_S)
    return motion, aim(steps * STEP_S)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.limiter", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    rows = []
    for name, call in cases().items():
        best_s = min(timeit.repeat(call, timer=time.process_time, number=CALLS, repeat=5)) / CALLS
        rows.append({"case": name, "cpu_us": round(best_s * 1e6, 2)})
        print(f"{name:<42} {best_s * 1e6:7.1f} us")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
