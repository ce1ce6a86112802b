r"""What disturbances cost: success of teacher and int8 on the same scenes; stop it and start it again at any time.

    python -m examples.metaworld.mt.robustness --bundle out/mt10/student.bundle --teacher out/mt10/teacher

Ten fresh scenes a task at every level of `CURVES`, in the loop of the bundle; both policies start from its one noise.
A sentence that a policy refuses to hear is an episode without success: `refused` counts them. Outcomes (parquet) and
robustness.json go to out/mt10/results; `--recount` plays nothing. Some 40 levels: hours on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.files import write_json
from edgevla.errors import BadInput, explain
from edgevla.policy.words import encoder_of
from edgevla.sim.lockstep import Episode
from examples.ended import ended
from examples.metaworld.evidence import WORKERS
from examples.metaworld.mt.command import (
    add_teacher,
    host_of,
    out_of,
    parser_of,
    read_result,
    recount_into,
    require_given,
    require_newest,
    require_teacher,
)
from examples.metaworld.mt.disturb import WORDS, Disturbed, said
from examples.metaworld.mt.episodes import fresh
from examples.metaworld.mt.evaluate import OUTCOMES
from examples.metaworld.mt.tasks import MtTask, Which, tasks
from export.distill.progress import Reporter
from export.evidence.outcomes import Row, append_rows, play_recorded, read_rows, share
from export.evidence.rollouts import PolicySpec

SCHEMA = "edgevla.mt.robustness/1"
RESULT = "robustness.json"
POLICIES = ("teacher", "int8")
SCENES_PER_TASK = 10


@dataclass(frozen=True)
class Curve:
    """One disturbance (a kind of `disturb`) and the levels it is played at. neutral: the level that changes nothing."""

    kind: str
    unit: str
    levels: tuple[float, ...]
    neutral: float = 0.0

    def disturbance(self, level: float) -> Disturbed | None:
        return None if level == self.neutral or self.kind in WORDS else Disturbed(self.kind, level)

    def episodes(self, level: float, scenes: Sequence[Episode]) -> list[Episode]:
        """The scenes, with the words of that level."""
        return [said(self.kind, level, one) for one in scenes] if self.kind in WORDS else list(scenes)


CURVES = (
    Curve("camera moved", "cm", (0, 1, 2, 4, 8)),
    Curve("camera turned", "degrees", (0, 1, 2, 4, 8)),
    Curve("light", "times", (0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 1.8), neutral=1.0),
    Curve("background", "share replaced", (0, 0.25, 0.5, 0.75, 1)),
    Curve("words added", "known words", (0, 1, 2, 4)),
    Curve("another thing named", "things", (0, 1)),
    Curve("unknown words", "words", (0, 1)),
    Curve("state noise", "mm", (0, 2, 5, 10, 20)),
    Curve("pixel noise", "of 255", (0, 4, 8, 16, 32)),
    Curve("dropped frames", "share of inferences", (0, 0.1, 0.25, 0.5, 0.75)),
    Curve("delay", "ticks more", (0, 1, 2, 3, 4, 6, 8)),
)


@dataclass(frozen=True)
class Plan:
    """What is played."""

    tasks: tuple[MtTask, ...]
    scenes_per_task: int = SCENES_PER_TASK
    curves: tuple[Curve, ...] = CURVES

    def points(self) -> list[tuple[Disturbed | None, list[Episode]]]:
        """What each level plays, the undisturbed scenes once and first."""
        scenes = fresh(self.tasks, self.scenes_per_task)
        found: list[tuple[Disturbed | None, list[Episode]]] = [(None, scenes)]
        for curve in self.curves:
            levels = [level for level in curve.levels if level != curve.neutral]
            found += [(curve.disturbance(level), curve.episodes(level, scenes)) for level in levels]
        return found


def outcomes_of(folder: Path, policy: str) -> Path:
    """Where all levels of a policy are kept."""
    return folder / OUTCOMES / f"robustness-{policy}.parquet"


def spec_of(policy: str, bundle: Path, teacher: Path, disturbance: Disturbed | None = None) -> PolicySpec:
    """One of POLICIES."""
    return PolicySpec(policy, bundle, teacher if policy == "teacher" else None, disturbance=disturbance)


@dataclass(frozen=True)
class _Job:
    """A level of one policy. there: how many of its episodes the file has."""

    spec: PolicySpec
    episodes: list[Episode]
    path: Path
    there: int

    @property
    def note(self) -> str:
        return f"{self.spec.kind}, {self.spec.disturbance.name if self.spec.disturbance else 'undisturbed scenes'}"


def play_missing(plan: Plan, bundle: Path, teacher: Path, out: Path) -> bool:
    """Plays every level that is not there yet, one level of both policies after the other; whether any was missing."""
    hears = encoder_of(require_teacher(teacher, bundle))
    jobs = []
    for disturbance, episodes in plan.points():
        refused = [episode for episode in episodes if _is_refused(episode, hears)]
        heard = [episode for episode in episodes if episode not in refused]
        for policy in POLICIES:
            spec, path = spec_of(policy, bundle, teacher, disturbance), outcomes_of(out, policy)
            _keep_refused(spec, refused, path)
            jobs.append(_Job(spec, heard, path, len(_there(spec, path) & set(heard))))
    _play(jobs)
    return any(job.there < len(job.episodes) for job in jobs)


def _play(jobs: Sequence[_Job]) -> None:
    reporter = Reporter("episodes", sum(len(job.episodes) - job.there for job in jobs))
    done = 0
    for job in jobs:
        show = partial(_show, reporter, job.note, done - job.there)
        play_recorded(job.spec, job.episodes, job.path, WORKERS, show)
        done += len(job.episodes) - job.there
    reporter.close()


def _show(reporter: Reporter, note: str, before: int, now: int) -> None:
    reporter.show(before + now, note)


def _is_refused(episode: Episode, hears: Callable[[str], object]) -> bool:
    try:
        hears(episode.instruction)
    except BadInput:
        return True
    return False


def _keep_refused(spec: PolicySpec, episodes: Sequence[Episode], path: Path) -> None:
    """An episode that the policy does not begin: no tick, no inference, no success."""
    there = _there(spec, path) if episodes else set()
    missing = [Row(spec.identity(), episode, False, 0, 0, 0.0) for episode in episodes if episode not in there]
    if missing:
        append_rows(path, missing)


def _there(spec: PolicySpec, path: Path) -> set[Episode]:
    """What the policy has played."""
    policy = spec.identity()
    return {row.episode for row in (read_rows(path) if path.exists() else []) if row.policy == policy}


def recounted(folder: Path, plan: Plan | None = None) -> dict[str, Any]:
    """Every figure of robustness.json that comes from outcomes, again from FOLDER/outcomes alone.

    Args:
        folder: that robustness.json stands in.
        plan: what was played; None: the whole plan of the tasks that were.

    Raises:
        BadInput: outcomes are missing.
    """
    rows = {policy: read_rows(outcomes_of(folder, policy)) for policy in POLICIES}
    plan = plan or Plan(tasks(_set_in(rows["int8"])))
    names = {policy: _undisturbed(found[-1].policy) for policy, found in rows.items()}
    known = {policy: _by_level(found, names[policy]) for policy, found in rows.items()}
    scenes = fresh(plan.tasks, plan.scenes_per_task)
    curves = [
        {
            "name": curve.kind,
            "unit": curve.unit,
            "points": [_point(curve, level, scenes, known) for level in curve.levels],
        }
        for curve in plan.curves
    ]
    return {"scenes_per_task": plan.scenes_per_task, "policies": names, "curves": curves}


Known = Mapping[tuple[str, Episode], Row]  # by the disturbance's name, "" for none


def _by_level(rows: Sequence[Row], policy: str) -> Known:
    mine = [row for row in rows if _undisturbed(row.policy) == policy]
    return {(row.policy.partition(", ")[2], row.episode): row for row in mine}


def _undisturbed(policy: str) -> str:
    """A policy's identity without its disturbance."""
    return policy.partition(", ")[0]


def _point(curve: Curve, level: float, scenes: Sequence[Episode], known: Mapping[str, Known]) -> dict[str, Any]:
    disturbance, episodes = curve.disturbance(level), curve.episodes(level, scenes)
    name = "" if disturbance is None else disturbance.name
    rows: dict[str, list[Row]] = {}
    for policy, played in known.items():
        rows[policy] = [played[name, episode] for episode in episodes if (name, episode) in played]
        if len(rows[policy]) < len(episodes):
            got = f"{len(rows[policy])} of {policy}"
            raise BadInput(explain(f"{curve.kind} {level:g}", f"{len(episodes)} episodes", got, "let it go on"))
    refused = sum(row.ticks == 0 and not row.success for row in rows["int8"])
    return {
        "level": level,
        **{policy: share(played) for policy, played in rows.items()},
        "episodes": len(episodes),
        **({"refused": refused} if refused else {}),
    }


def _set_in(rows: Sequence[Row]) -> Which:
    return "mt10" if {row.episode.task for row in rows} <= {task.name for task in tasks("mt10")} else "mt50"


def robustness(plan: Plan, which: str, bundle: Path, teacher: Path, out: Path) -> dict[str, Any]:
    """Plays what is missing; robustness.json. Raises BadInput: `out` has outcomes of later policies."""
    played = play_missing(plan, bundle, teacher, out)
    found = recounted(out, plan)
    require_newest(out, found["policies"], {policy: spec_of(policy, bundle, teacher).identity() for policy in POLICIES})
    return {"schema": SCHEMA, "set": which, "host": host_of(out / RESULT, played), **found}


def main(given: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = parser_of(__doc__)
    add_teacher(parser)
    return ended(_work, parser, given)


def _work(asked: argparse.Namespace) -> None:
    out = out_of(asked)
    plan = Plan(tasks(asked.set))
    if asked.recount:
        found = recount_into(out / RESULT, read_result(out / RESULT, "curves"), recounted(out, plan))
    else:
        require_given(asked, "bundle", "teacher")
        found = robustness(plan, asked.set, asked.bundle, asked.teacher, out)
    write_json(out / RESULT, found)
    _tell(found)
    print(f"wrote {out / RESULT}")


def _tell(found: Mapping[str, Any]) -> None:
    for curve in found["curves"]:
        print(f"{curve['name']} ({curve['unit']})")
        for point in curve["points"]:
            shares = ", ".join(f"{policy} {100 * point[policy]:5.1f} %" for policy in POLICIES)
            refused = f", {point['refused']} refused" if "refused" in point else ""
            print(f"  {point['level']:6g}: {shares} of {point['episodes']}{refused}")


if __name__ == "__main__":
    raise SystemExit(main())
