"""Cases for the limiter in C beside the limiter in Python: random ones, and values on every border.

    python -m tests.firmware_bridge.firmware.limiter_cases --cases 1000000

builds the library, compares bit by bit and prints one JSON line; exit code 1 at the first difference.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgevla.control.braking import Axis
from edgevla.control.channel import slow_channel, track_channel
from edgevla.control.limiter import Limits
from tests.firmware_bridge.firmware import native

BLOCK = 20_000


def ranges(rng, n):
    """Limits (n, 6) of all magnitudes, and steps (n,): joints, simulators, nimble ones, ranges shorter than a stop."""
    step = rng.choice([0.001, 0.002, 0.005, 0.01, 0.0125, 0.05], n)
    half = 10 ** rng.uniform(-2, 1.5, n)
    centre = rng.choice([0.0, 1.0, -3.0], n) * half * rng.random(n)
    low = (centre - half).astype(np.float32).astype(np.float64)
    high = (centre + half).astype(np.float32).astype(np.float64)
    velocity = 10 ** rng.uniform(-2, 2.5, n)
    acceleration = velocity * 10 ** rng.uniform(-1, 3.5, n)
    jerk = acceleration * 10 ** rng.uniform(-1, 3.5, n)
    deceleration = acceleration * rng.choice([1.0, 0.5, 0.05, 1e-3], n)
    return np.stack([low, high, velocity, acceleration, jerk, deceleration], axis=1), step


def python_axes(rows, steps):
    """[(Axis, reach)] as the servo makes them."""
    made = []
    for row, step in zip(rows, steps.tolist(), strict=True):
        limits = Limits(*(np.array([value]) for value in row), step)
        made.append((limits.axes[0], limits.reaches[0]))
    return made


def cases(rng, rows, steps):
    """(n, 7): motion, wanted motion, h. A third of the values stands on a border or one bit beside it."""
    n = len(rows)
    low, high, velocity, acceleration, jerk, _ = rows.T
    h = steps * rng.choice([1.0, 1.0, 1.0, 1.5, 2.0, 7.0], n)
    s = low + (high - low) * rng.uniform(-0.05, 1.05, n)
    v = velocity * rng.uniform(-1.1, 1.1, n) * rng.choice([1.0, 0.1, 0.0], n)
    a = acceleration * rng.uniform(-1.1, 1.1, n) * rng.choice([1.0, 0.1, 0.0], n)
    near = s + rng.choice([0.0, 1.0, -1.0, 3.0, -3.0], n) * velocity * h * rng.random(n)
    aim = np.where(rng.random(n) < 0.7, near, low + (high - low) * rng.uniform(-0.3, 1.3, n))
    s = _bordered(rng, s, (low, high))
    v = _bordered(rng, v, (np.zeros(n), velocity, -velocity, jerk * h * h))
    a = _bordered(rng, a, (np.zeros(n), acceleration, -acceleration, jerk * h))
    aim = _bordered(rng, aim, (low, high, s, s + velocity * h, s + v * h, s + (v + a * h) * h))
    aim_v = rng.choice([0.0, 1.0, -1.0], n) * velocity * rng.uniform(0.0, 1.2, n)
    aim_a = rng.choice([0.0, 1.0, -1.0], n) * acceleration * rng.uniform(0.0, 1.2, n)
    return np.stack([s, v, a, aim, aim_v, aim_a, h], axis=1)


def _bordered(rng, values, borders):
    """A third of `values` replaced by a border, or by the double next to it."""
    chosen = np.choose(rng.integers(0, len(borders), len(values)), borders)
    beside = rng.integers(-1, 2, len(values))
    chosen = np.where(
        beside > 0, np.nextafter(chosen, np.inf), np.where(beside < 0, np.nextafter(chosen, -np.inf), chosen)
    )
    return np.where(rng.random(len(values)) < 1 / 3, chosen, values)


def in_python(axes, table, slow):
    """(n, 4) as the C library gives them."""
    out = np.empty((len(table), 4))
    for index, ((axis, reach), (s, v, a, aim, aim_v, aim_a, h)) in enumerate(zip(axes, table.tolist(), strict=True)):
        if slow:
            row, bits = slow_channel(axis, reach, s, v, a, h)
        else:
            row, bits = track_channel(axis, reach, s, v, a, (aim, aim_v, aim_a), h)
        out[index] = (*row, bits)
    return out


def differing(ours, theirs):
    """Indices of rows whose bits differ; 0.0 and -0.0 differ too."""
    return np.flatnonzero((ours.view(np.uint64) != theirs.view(np.uint64)).any(axis=1))


def compare(c, count, seed=0):
    """How many cases of each kind; AssertionError, with the case, at the first difference."""
    rng = np.random.default_rng(seed)
    done = {"axes": 0, "track": 0, "slow": 0, "bits": 0}
    while done["track"] + done["slow"] < count:
        n = min(BLOCK, count - done["track"] - done["slow"])
        rows, steps = ranges(rng, max(1, n // 20))
        _require_equal(
            "axes",
            np.array([[*_flat(axis), reach, axis.nimble] for axis, reach in python_axes(rows, steps)]),
            c.axes(rows, steps),
            rows,
        )
        done["axes"] += len(rows)
        pick = rng.integers(0, len(rows), n)
        made = python_axes(rows, steps)
        table = cases(rng, rows[pick], steps[pick])
        for kind, part in (("track", slice(0, n * 7 // 10)), ("slow", slice(n * 7 // 10, n))):
            chosen = pick[part]
            ours = in_python([made[i] for i in chosen], table[part], kind == "slow")
            theirs = c.channels(rows[chosen], steps[chosen], table[part], kind == "slow")
            _require_equal(kind, ours, theirs, table[part])
            done[kind] += len(chosen)
            done["bits"] |= int(np.bitwise_or.reduce(ours[:, 3].astype(int)))
    return done


def _flat(axis: Axis):
    return tuple(axis)[:-1]


def _require_equal(kind, ours, theirs, table):
    wrong = differing(np.ascontiguousarray(ours, np.float64), theirs)
    if len(wrong):
        at = int(wrong[0])
        raise AssertionError(
            f"{kind}: {len(wrong)} of {len(ours)} differ; case {[x.hex() for x in table[at].tolist()]}: "
            f"Python {ours[at].tolist()}, C {theirs[at].tolist()}"
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The limiter in C against the one in Python, bit by bit.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sources = [*native.LIBRARY, native.HERE / "shim.c"]
        c = native.Native(native.compile_c(Path(folder), "library.so", sources, "-shared", "-fPIC"))
        try:
            done = compare(c, arguments.cases, arguments.seed)
        except AssertionError as error:
            print(json.dumps({"equal": False, "difference": str(error)}))
            return 1
    print(json.dumps({"equal": True, **done, "seconds": round(time.monotonic() - started_s, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
