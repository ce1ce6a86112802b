r"""Jumps at the seams of the same recorded chunks, five ways to join them, 0 to 8 ticks of delay.

    python -m bench.seams --bundle out/demo/student.bundle --out bench/results/seams.json

Ways: `bench.seams.joins`. Episodes: fresh scenes of the six tasks, played at zero delay with the policy asked at every
tick. Each way is measured as it wants to move and behind a limiter that grants the arm's `stop_deceleration` as
acceleration. Two readings: `displacements`, as this policy was trained, and `set-points`, the same chunks summed to
absolute positions, as a policy of absolute actions would have said them. Takes about two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.seams.joins import ENSEMBLE_M, LEROBOT_THRESHOLD, Join, Said
from bench.seams.measure import Trajectory, distance, follow, joins, jumps, spread
from bench.seams.record import Recording, record, require_one_observation
from edgevla.bundle.reader import open_bundle
from edgevla.control.commands import Units
from edgevla.control.limiter import Limits, limits_of
from edgevla.errors import EdgevlaError
from edgevla.policy.blend import blend_ticks, takes_prefix
from edgevla.policy.engine import PolicyEngine
from edgevla.sim.lockstep import Loop
from edgevla.sim.metaworld import MetaworldPlant
from edgevla.telemetry.host import describe_host
from examples.metaworld.episodes import paired
from export.distill.progress import Reporter
from export.evidence.rollouts import PolicySpec

FIRST_SCENE = 4_000  # see bench.delay: nobody else's scenes
DELAYS = range(9)
READINGS = {"displacements": False, "set-points": True}


def comfortable(loop: Loop) -> Limits:
    """The arm's limits, with the deceleration of its stop as the largest acceleration."""
    limits = limits_of(loop.arm)
    return replace(limits, max_acceleration=limits.stop_deceleration)


class Bench:
    """One policy, its recordings, and the ways to join them."""

    def __init__(self, bundle: Path, per_task: int) -> None:
        opened = open_bundle(bundle)
        require_one_observation(opened.manifest)
        spec = PolicySpec("int8", bundle)
        self.policy, self.engine, self.loop = spec.identity(), PolicyEngine(opened), spec.loop()
        self.with_prefix = takes_prefix(opened.manifest)
        spaces = [channel.space for channel in opened.manifest.channels]
        self.moving = [i for i, space in enumerate(spaces) if space != "gripper"]
        loop = self.loop
        self.units = Units(loop.kinds, np.array(loop.scale), np.array(loop.offset), loop.period_s)
        self.limits = comfortable(loop)
        self.recordings = self._record(per_task)

    def _record(self, per_task: int) -> list[Recording]:
        episodes, found = paired(per_task, FIRST_SCENE), list[Recording]()
        plant: MetaworldPlant | None = None
        reporter = Reporter("recording", len(episodes))
        for episode in episodes:
            same = plant if plant is not None and plant.task.name == episode.task else None
            recording, plant = record(self.engine, episode, self.loop, same)
            found.append(recording)
            reporter.show(len(found))
        reporter.close()
        return found

    def line(self, name: str, way: Callable[[Said, int], Join], delay: int, absolute: bool) -> dict[str, Any]:
        """One way at one delay, over all recordings."""
        free = [self._follow(recording, way, delay, absolute, None) for recording in self.recordings]
        held = [self._follow(recording, way, delay, absolute, self.limits) for recording in self.recordings]
        ticks = sum(len(recording.commanded) for recording in self.recordings)
        return {
            "way": name,
            "delay": delay,
            "asked_per_s": sum(run.asked for run in free) / (ticks * self.loop.period_s),
            "seams": int(sum(run.seams.sum() for run in free)),
            "wanted": self._jumps(free),
            "limited": self._jumps(held),
            "distance": spread([np.array([self._distance(run, i, absolute)]) for i, run in enumerate(free)]),
        }

    def _follow(
        self,
        recording: Recording,
        way: Callable[[Said, int], Join],
        delay: int,
        absolute: bool,
        limits: Limits | None,
    ) -> Trajectory:
        self.engine.set_instruction(recording.episode.instruction)
        said = Said(recording, self.engine, self.units, self.loop.schedule.horizon, absolute)
        return follow(way(said, delay), recording, limits, self.loop.period_s)

    def _jumps(self, runs: Sequence[Trajectory]) -> dict[str, Any]:
        found = [jumps(run.commanded, run.seams, self.moving, self.loop.period_s) for run in runs]
        return {
            "velocity_m_s": spread([part.velocity for part in found]),
            "acceleration_m_s2": spread([part.acceleration for part in found]),
        }

    def _distance(self, run: Trajectory, number: int, absolute: bool) -> float:
        return distance(run.commanded, self.recordings[number], self.moving, absolute, self.loop.period_s)

    def inside(self) -> dict[str, Any]:
        """The same measures where no chunk begins: what the policy itself changes from tick to tick."""
        replan = self.loop.schedule.replan
        runs = []
        for recording in self.recordings:
            commanded = np.vstack([recording.start[None], recording.commanded])
            part = np.arange(len(recording.commanded)) % replan
            runs.append(jumps(commanded, part >= 2, self.moving, self.loop.period_s))
        return {
            "velocity_m_s": spread([part.velocity for part in runs]),
            "acceleration_m_s2": spread([part.acceleration for part in runs]),
        }


def measure(bench: Bench, ticks: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Lines of both readings. `ticks`: every b that is tried; the first is the one in use."""
    replan, result = bench.loop.schedule.replan, {}
    for reading, absolute in READINGS.items():
        ways = joins(ticks[0], replan, bench.with_prefix and not absolute)
        for other in ticks[1:]:
            ways[f"blend {other}"] = joins(other, replan, False)["blend"]
        result[reading] = [bench.line(name, way, d, absolute) for d in DELAYS for name, way in ways.items()]
    return result


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
    inside = found["inside"]
    velocity, acceleration = _pair(inside["velocity_m_s"], 1e3), _pair(inside["acceleration_m_s2"], 1.0)
    print(f"inside a chunk: {velocity} mm/s, {acceleration} m/s2")


def _pair(of: dict[str, float], scale: float) -> str:
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
        "readings": measure(bench, tried),
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
