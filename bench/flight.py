"""What a flight record costs: CPU and bytes of each compression, on rendered pictures and rows of a run.

    python -m bench.flight [--seconds 20] [--json out/flight-cost.json]

Takes about half a minute. Pictures are rendered by the simulator (extra `sim`), then written as the recorder
writes them; the clock is the CPU time of this process, the disk is a file that is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.cli.output import print_table
from edgevla.flight import encoding as form
from edgevla.flight.segments import FlightFile
from edgevla.flight.tape import Observation, Seen
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.rows import tick_dtype

CASES = {"one camera 96 x 96": (1, 96, 96), "two cameras 640 x 480": (2, 480, 640)}
KINDS = ("none", "lz4", "zstd")
RATE_HZ, STEPS_HZ, HORIZON, CHANNELS = 10, 200, 50, 7


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="of flight to be written in each case")
    parser.add_argument("--json", type=Path, default=Path("out/flight-cost.json"))
    given = parser.parse_args()
    pictures = rendered(given.seconds * RATE_HZ)
    results = [measured(case, kind, pictures, given.seconds) for case in CASES for kind in KINDS]
    rows = [(r["case"], r["compression"], r["cpu_percent"], r["mb_per_s"], r["ratio"]) for r in results]
    print_table("flight record", ["case", "compression", "CPU of one core, %", "MB/s on disk", "ratio"], rows)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps({"cases": results, "host": describe_host()}, indent=1) + "\n")


def rendered(count: int) -> list[NDArray[np.uint8]]:
    """Pictures of a moving arm, 96 x 96."""
    from edgevla.sim.metaworld import MetaworldPlant

    plant = MetaworldPlant("drawer-open-v3", 0)
    goal, found = np.array(plant.setpoint0, np.float64), []
    for number in range(count):
        goal[:3] += 0.002 * np.array([np.sin(number / 9), np.cos(number / 7), np.sin(number / 5)])
        plant.step(goal)
        found.append(np.array(plant.render()))
    return found


def measured(case: str, kind: str, pictures: list[NDArray[np.uint8]], seconds: int) -> dict[str, Any]:
    """CPU time and bytes of one case."""
    cameras, height, width = CASES[case]
    rng = np.random.default_rng(0)
    grow = (height // 96, width // 96)
    noise = rng.integers(0, 4, (height, width, 3), dtype=np.uint8)  # a sensor's last two bits are not quiet
    shift = rng.integers(0, height, len(pictures))
    frames = [enlarged(p, grow, (height, width)) + np.roll(noise, by, 0) for p, by in zip(pictures, shift, strict=True)]
    seen = [observation(number, cameras, frame) for number, frame in enumerate(frames)]
    steps = np.zeros(STEPS_HZ // RATE_HZ, tick_dtype(CHANNELS, CHANNELS))
    with tempfile.TemporaryDirectory() as folder:
        begun_s = time.process_time()
        file = FlightFile(Path(folder) / "flight.mcap", {}, 1 << 40, kind)
        raw = 0
        for number, frame in enumerate(frames):
            steps["tick"] = np.arange(len(steps)) + number * len(steps)
            steps["setpoint"] = seen[number].setpoints[: len(steps)]
            file.rows(form.TICKS, steps, number)
            file.observation(seen[number], number + 1)
            raw += steps.nbytes + cameras * frame.nbytes + 2 * seen[number].setpoints.nbytes
            if number % (1 if frame.nbytes > 100_000 else RATE_HZ) == 0:
                file.flush()
        file.finish()
        cpu_s, written = time.process_time() - begun_s, file.size_bytes
    return {
        "case": case,
        "compression": kind,
        "cpu_percent": round(100 * cpu_s / seconds, 2),
        "mb_per_s": round(written / seconds / 1e6, 3),
        "ratio": round(raw / written, 2),
    }


def enlarged(picture: NDArray[np.uint8], grow: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    large = picture.repeat(grow[0], 0).repeat(grow[1], 1)
    pad = ((0, size[0] - large.shape[0]), (0, size[1] - large.shape[1]), (0, 0))
    return np.pad(large, pad, mode="edge")


def observation(number: int, cameras: int, frame: NDArray[np.uint8]) -> Observation:
    rng = np.random.default_rng(number)
    chunk = rng.standard_normal((HORIZON, CHANNELS)).astype(np.float32)
    frames = {f"camera{i}": Seen(number, number, frame) for i in range(cameras)}
    few = chunk[0]
    return Observation(number, 1, 2, 3, 0, 0, False, 1, few, chunk[:2], few, frames, chunk, chunk)


if __name__ == "__main__":
    main()
