"""`edgevla bench guard`: does the real loop keep its budget on this machine, and may one say so?"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import profiles
from bench.files import write_json
from bench.guard.budget import Budget, load_budget
from bench.guard.document import Guarded, guarded, table
from bench.guard.drive import SEGMENT_S, Segment, Setup, load, one_segment, save
from bench.guard.stages import stage_names
from bench.loop.load import KINDS
from bench.plans import instruction_of
from bench.report.guard_page import Source, write
from edgevla.bundle import open_bundle
from edgevla.bundle.wiring import once_per_instruction
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.control.plan import plan_of
from edgevla.doctor.board import target_here
from edgevla.errors import BadInput, Refused, Unsound, Usage, explain
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.stats import samples_needed
from profiles.bridge import require_driver
from profiles.calibrated import load_calibrated

_SPARE = 50  # one inference in so many is asked for in addition: some get no chunk
SAMPLES = samples_needed(0.999, 0.99)  # 4,603: p99.9 at 99 %, were they independent


def guard(
    bundle: Path = typer.Option(..., "--bundle", metavar="BUNDLE", help="Folder NAME.bundle"),
    target: str = typer.Option("", help="Name or .toml of the target; default: the bundle's"),
    arm: str = typer.Option("", help="Name or .toml of the arm; default: the bundle's"),
    budget: Path | None = typer.Option(None, metavar="FILE", help="Limits, see bench/budgets/guard-host.toml"),
    samples: int = typer.Option(SAMPLES, min=1, help="Inferences after the warm-up, the slowest stage"),
    load: str = typer.Option("none", help=f"Beside the policy, on its core: none, or of {', '.join(KINDS)}"),
    warm_up_s: float = typer.Option(2.0, min=0.0, help="Armed, not counted"),
    instruction: str = typer.Option("", help="Default: that of the bundle's first golden vector"),
    out: Path | None = typer.Option(None, "--out", "-o", metavar="FILE", help="The document, JSON; goes on if stopped"),
    html: Path | None = typer.Option(None, metavar="FILE", help="The report as one HTML file, see `bench page`"),
    markdown: Path | None = typer.Option(None, metavar="FILE", help="The tables of the report"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Run the real loop with a virtual arm, open loop, and hold each stage against its budget.

    Exit 0 kept, 1 broken, 3 not measured soundly (too few samples, stolen time, throttled, wrong power mode, no real
    time). A claim broken in an unsound run is 3, unless even its median is over the limit and only tails were spoiled.

    Example: edgevla bench guard --bundle examples/metaworld/student.bundle --budget bench/budgets/guard-host.toml
    """
    setup = _setup(bundle, target, arm, load, warm_up_s, instruction)
    limits = load_budget(budget, stage_names(setup.graphs)) if budget else Budget()
    tell: Callable[[str], None] = _to_stderr if as_json else (lambda text: say(text, "dim"))
    tell(f"{samples:,} inferences, one every {1e3 * setup.replan_s:g} ms: {_minutes(samples * setup.replan_s)}")
    found = guarded(setup, limits, measure(setup, samples, out, tell), describe_host())
    if out is not None:
        write_json(out, found.document)
        if not any(reason.kind == "stopped" for reason in found.reasons):
            shutil.rmtree(parts_of(out), ignore_errors=True)
    if html is not None or markdown is not None:
        write(Source(found.document), html, markdown)
    print_json(found.document) if as_json else show(found)
    judge(found)


def _setup(bundle: Path, target: str, arm: str, load: str, warm_up_s: float, instruction: str) -> Setup:
    loads = () if load == "none" else tuple(load.split(","))
    if not set(loads) <= set(KINDS):
        raise Usage(explain("no such load", f"none, or of {', '.join(KINDS)}", load, "pass another --load"))
    opened = open_bundle(bundle)
    device = load_calibrated(arm or opened.manifest.arm, None)
    require_driver(device)
    computer = target_here(profiles.load_target(target or opened.manifest.target))
    plan = plan_of(opened, computer, device, accept_no_watchdog=True)  # of a virtual arm nothing can fall
    stages = opened.manifest.stages
    once = once_per_instruction(stages)
    graphs = tuple(stage.name for stage in stages if stage not in once)
    return Setup(opened, plan, graphs, instruction or instruction_of(opened), loads, warm_up_s)


def measure(setup: Setup, samples: int, out: Path | None, tell: Callable[[str], None]) -> list[Segment]:
    """Segments until the samples are there, or one ended before its time. Goes on where it was stopped."""
    store = None if out is None else Store(parts_of(out), setup.key())
    found = store.read() if store else []
    while (left := samples - sum(one.inferences for one in found)) > 0 and not (found and _ended_early(found[-1])):
        at_most = max(1, math.ceil(SEGMENT_S / setup.replan_s))
        tell(f"segment {len(found) + 1}; {_minutes(left * setup.replan_s)} left")
        asked = min(left + left // _SPARE, at_most)
        found.append(one_segment(setup, asked, tell))
        if store and not _ended_early(found[-1]):
            store.add(len(found), found[-1])
        if 2 * found[-1].inferences < asked:  # what is answered so seldom is judged as it is
            break
    return found


def _ended_early(segment: Segment) -> bool:
    return bool(segment.facts["stop"]["code"]) or bool(segment.facts["stop"]["operator"])


def parts_of(out: Path) -> Path:
    """The folder of what was measured before the document is complete."""
    return out.with_name(f"{out.name}.parts")


@dataclass(frozen=True)
class Store:
    """Finished segments on disk."""

    folder: Path
    key: dict[str, Any]

    def read(self) -> list[Segment]:
        """Raises BadInput, or Usage where they were measured otherwise."""
        paths = sorted(self.folder.glob("*.npz")) if self.folder.is_dir() else []
        try:
            found = [load(path) for path in paths]
        except (OSError, ValueError, KeyError) as error:
            what, todo = f"{self.folder} cannot be continued", "remove it, or pass another --out"
            raise BadInput(explain(what, "segments of a guard", error, todo)) from None
        if any(segment.facts["key"] != self.key for segment in found):
            todo = "go on with the same options, remove it, or pass another --out"
            raise Usage(explain(f"{self.folder} holds another guard", self.key, found[0].facts["key"], todo))
        return found

    def add(self, number: int, segment: Segment) -> None:
        """Raises BadInput."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save(self.folder / f"{number:03d}.npz", segment)
        except OSError as error:
            what, todo = f"{self.folder} cannot be written", "pass another --out"
            raise BadInput(explain(what, "a folder with room", error.strerror, todo)) from None


def show(found: Guarded) -> None:
    """The claims with their slack, and what the run was worth."""
    columns = ["claim", "kind", "value, us", "limit, us", "slack, us", "samples (effective)", ""]
    print_table("guard", columns, table(found.claims))
    for name, stage in found.document["stages"].items():
        if stage["drift"]["significant"]:
            spread = 100 * stage["drift"]["spread"]
            say(f"{name} drifts: p = {stage['drift']['p_value']:.1g}, medians of blocks {spread:.1f} % apart", "dim")
    for reason in found.reasons:
        say(f"not sound: {reason.text}", "bold")


def judge(found: Guarded) -> None:
    """Raises Refused where a claim is broken, Unsound where nothing may be said."""
    names = "; ".join(claim.name for claim in found.broken)
    if found.exit_code == Refused.exit_code:
        raise Refused(f"broken: {names}")
    if found.exit_code == Unsound.exit_code:
        got = "; ".join(reason.text for reason in found.reasons)
        todo = "run it again on a quiet machine, with more --samples where those were too few"
        broken = f" (broken meanwhile: {names})" if names else ""
        raise Unsound(explain(f"not measured soundly{broken}", "a sound run", got, todo))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{seconds:.0f} s"


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
