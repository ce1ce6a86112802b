r"""Jumps at the seams of the same recorded chunks, five ways to join them, 0 to 8 ticks of delay.

    python -m bench.seams --bundle out/demo/student.bundle --out bench/results/seams.json

Ways: `bench.seams.joins`. Episodes: fresh scenes of the six tasks, played at zero delay with the policy asked at every
tick. Each way is measured as it wants to move and behind a limiter that grants the arm's `stop_deceleration` as
acceleration. Two readings: `displacements`, as this policy was trained, and `set-points`, the same chunks summed to
absolute positions, as a policy of absolute actions would have said them. A record does not react: the same jumps are
also measured in closed loop, where the policy sees what it did. Takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.seams.bench import FIRST_SCENE, Bench
from bench.seams.joins import ENSEMBLE_M, LEROBOT_THRESHOLD
from bench.seams.measure import joins
from edgevla.errors import EdgevlaError
from edgevla.policy.blend import blend_ticks
from edgevla.telemetry.host import describe_host
from export.distill.progress import Reporter

DELAYS = range(9)
CLOSED_DELAYS = (1, 2, 4, 6, 8)
READINGS = {"displacements": False, "set-points": True}


def recorded(bench: Bench, ticks: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Lines of both readings. `ticks`: every b that is tried; the first is the one in use."""
    replan, result = bench.loop.schedule.replan, {}
    for reading, absolute in READINGS.items():
        ways = joins(ticks[0], replan, bench.with_prefix and not absolute)
        for other in ticks[1:]:
            ways[f"blend {other}"] = joins(other, replan, False)["blend"]
        result[reading] = [bench.line(name, way, d, absolute) for d in DELAYS for name, way in ways.items()]
    return result


def closed(bench: Bench, ticks: int) -> list[dict[str, Any]]:
    """Lines of the closed loop."""
    ways = joins(ticks, bench.loop.schedule.replan, bench.with_prefix)
    reporter, lines = Reporter("closed loop", len(ways) * len(CLOSED_DELAYS)), list[dict[str, Any]]()
    for delay in CLOSED_DELAYS:
        for name, way in ways.items():
            lines.append(bench.closed(name, way, delay))
            reporter.show(len(lines))
    reporter.close()
    return lines


def show(found: dict[str, Any]) -> None:
    """The tables on the terminal."""
    for reading, lines in found["readings"].items():
        unit = "mm" if READINGS[reading] else "mm/s"
        print(f"\n{reading}: jump at a seam, p50 / p95; distance from zero delay in {unit}")
        titles = ("mm/s", "m/s2", "limited mm/s", "m/s2")
        print(f"{'ticks':>5} {'way':10} {'asked/s':>7} {' '.join(f'{t:>13}' for t in titles)} {'distance':>9}")
        for line in lines:
            cells = [
                _pair(line[kind][what], scale)
                for kind in ("wanted", "limited")
                for what, scale in (("velocity_m_s", 1e3), ("acceleration_m_s2", 1.0))
            ]
            asked, far = f"{line['asked_per_s']:7.1f}", 1e3 * line["distance"]["p50"]
            print(f"{line['delay']:>5} {line['way']:10} {asked} {' '.join(f'{c:>13}' for c in cells)} {far:9.2f}")
    print("\nclosed loop: jump at a seam, p50 / p95; between seams")
    for line in found["closed_loop"]:
        at = [_pair(line["wanted"]["velocity_m_s"], 1e3), _pair(line["wanted"]["acceleration_m_s2"], 1.0)]
        at.append(_pair(line["between_seams"]["velocity_m_s"], 1e3))
        print(f"{line['delay']:>5} {line['way']:10} {line['seams']:7} {' '.join(f'{c:>13}' for c in at)}")
    inside = found["inside"]
    velocity, acceleration = _pair(inside["velocity_m_s"], 1e3), _pair(inside["acceleration_m_s2"], 1.0)
    print(f"inside a chunk: {velocity} mm/s, {acceleration} m/s2")


def _pair(of: dict[str, float] | None, scale: float) -> str:
    if of is None:
        return "-"
    return f"{scale * of['p50']:.3g} / {scale * of['p95']:.3g}"


def main() -> int:
    """Command line."""
    given = _arguments()
    warnings.filterwarnings("ignore")
    try:
        run(given)
    except EdgevlaError as error:
        print(f"error: {error}")
        return error.exit_code
    return 0


def run(given: argparse.Namespace) -> None:
    """Measures and writes the result."""
    bench = Bench(given.bundle, given.per_task)
    used = blend_ticks(bench.loop.period_s)
    tried = [used, *(b for b in given.blend if b != used)]
    found = {
        "command": f"python -m bench.seams --per-task {given.per_task}",
        "policy": bench.policy,
        "period_s": bench.loop.period_s,
        "schedule": asdict(bench.loop.schedule),
        "blend_ticks": used,
        "ensemble_m": ENSEMBLE_M,
        "lerobot_threshold": LEROBOT_THRESHOLD,
        "limited_to_m_s2": float(bench.limits.max_acceleration[bench.moving[0]]),
        "scenes": {"first": FIRST_SCENE, "per_task": given.per_task, "episodes": len(bench.recordings)},
        "ticks": sum(len(recording.commanded) for recording in bench.recordings),
        "inside": bench.inside(),
        "readings": recorded(bench, tried),
        "closed_loop": closed(bench, used),
        "host": describe_host(),
    }
    temporary = given.out.with_suffix(".part")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(temporary, given.out)
    show(found)
    print(f"wrote {given.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--per-task", type=int, default=5, help="episodes recorded of each of the six tasks")
    parser.add_argument("--blend", type=int, nargs="*", default=[2, 4, 8], metavar="TICKS", help="other b to try")
    parser.add_argument("--out", type=Path, default=Path("bench/results/seams.json"))
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
