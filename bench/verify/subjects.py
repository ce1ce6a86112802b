"""Which committed file is computed from what, and which is a raw result itself, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.verify import recount
from bench.verify.differ import compared
from edgevla.errors import EdgevlaError

Recount = Callable[[Path, Any], Any]


@dataclass(frozen=True)
class Subject:
    """`source`: what it is computed from, in words; files beside it or fields of its own."""

    source: str
    recount: Recount


SUBJECTS = {
    "loop.json": Subject("loop-windows.json", recount.loop),
    "faults.json": Subject("faults-run.json", recount.faults),
    "bus.json": Subject("bus-run.json", recount.bus),
    "deploy.json": Subject("deploy-loopback.json, twin.json", recount.deploy),
    "export.json": Subject("compare.json, smolvla.json, teacher-memory.json, demo.json", recount.export),
    "delay.json": Subject("delay.parquet", recount.delay),
    "metaworld/evidence.json": Subject("metaworld/outcomes/*.parquet", recount.evidence),
    "loop-windows.json": Subject("its windows' histograms", recount.loop_windows),
    "soak.json": Subject("its blocks and their histograms", recount.soak),
    "guard.json": Subject("its HDR histograms", recount.guard),
    "compare.json": Subject("its latencies_ns", recount.compare),
    "smolvla.json": Subject("its latencies_ns, memory_mb", recount.smolvla),
    "search.json": Subject("its latencies_ns", recount.search),
    "demo.json": Subject("its latencies_ns, wake_ns, per_task", recount.demo),
    "peers.json": Subject("its windows", recount.peers),
    "scaling.json": Subject("its raw axes", recount.scaling),
    "bus-run.json": Subject("its rows (what is missed)", recount.bus_run),
    "steady.json": Subject("its two runs", recount.steady),
    "teacher-memory.json": Subject("its rows", recount.teacher_memory),
    "powercut.json": Subject("its chapters", recount.powercut),
    "twin.json": Subject("its checks", recount.stand_in),
    "nspawn.json": Subject("its checks", recount.stand_in),
    "structures.json": Subject("structures-run.json", recount.structures),
    "structures-run.json": Subject("its episodes", recount.structures_run),
    "recipes.json": Subject("its episodes", recount.recipes),
    "fleet.json": Subject("its list of what was broken", recount.fleet),
    "policy.json": Subject("mt10/evaluation.json", recount.policy),
    "mt10/evaluation.json": Subject("mt10/outcomes/*.parquet", recount.mt10_evaluation),
    "mt10/robustness.json": Subject("mt10/outcomes/robustness-*.parquet", recount.mt10_robustness),
    "mt10/ablations.json": Subject("its episodes", recount.mt10_ablations),
    "mt10/starts.json": Subject("mt10/outcomes/starts.parquet", recount.mt10_starts),
    "mt10/realtime.json": Subject("its runs, mt10/outcomes/int8.parquet", recount.mt10_realtime),
}
RAW = {
    "faults-run.json": "one row a fault, as its run ended; nothing is summed",
    "can.json": "pytest's own counts by file",
    "counts.json": "instructions as callgrind counted them",
    "deploy-loopback.json": "bytes and seconds as they were read; nothing is summed",
    "finish-effect.json": "one row a seed; frames and answers were not kept",
    "fuzz.json": "one row a decoder, as libFuzzer reported it",
    "lerobot-parity.json": "one row a test, its largest difference; the answers were not kept",
    "parity-arm64.json": "errors stage by stage; the tensors were not kept",
    "seam-own-module.json": "one row a policy and depth; the motions were not kept",
    "seams.json": "percentiles of motions that were not kept: make seams plays them again",
}
UNKNOWN = "UNKNOWN: bench/verify/subjects.py says neither what it is computed from nor that it is raw"


@dataclass(frozen=True)
class Verdict:
    """Of one file. `kept` None: a raw result, nothing to compute; `differences` in words."""

    name: str
    source: str
    fields: int
    kept: bool | None
    differences: tuple[str, ...] = ()


def verdicts(folder: Path) -> list[Verdict]:
    """One a committed JSON file of the folder, by name; those that others submitted have their own check."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json"))
    return [_verdict(folder, name) for name in names if not name.startswith("submitted/")]


def _verdict(folder: Path, name: str) -> Verdict:
    if name in RAW:
        return Verdict(name, f"raw: {RAW[name]}", 0, None)
    if name not in SUBJECTS:
        return Verdict(name, "-", 0, False, (UNKNOWN,))
    subject = SUBJECTS[name]
    try:
        document = recount.read(folder / name)
        found = compared(subject.recount(folder, document), document)
    except EdgevlaError as error:
        return Verdict(name, subject.source, 0, False, (" ".join(str(error).split()),))
    except (KeyError, TypeError, ValueError, IndexError, StopIteration) as error:  # a part that is not there any more
        return Verdict(name, subject.source, 0, False, (f"cannot be computed: {type(error).__name__}: {error}",))
    return Verdict(name, subject.source, found.fields, not found.differences, found.differences)
