"""Keeps the figures of README.md and docs/ equal to the committed results.

    python -m bench.readme            # rewrite the blocks
    python -m bench.readme --check    # exit 1 when a block differs from the results

A block stands between two marker comments. Its numbers come from the files of bench/results (demo.json is a committed
copy of the demo's report.json); what those lack is printed as *not measured*.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.benchmarks.page import benchmarks
from bench.budgets import check_budgets
from bench.bus.block import bus_block
from bench.policy import curves
from bench.policy.block import CURVES, GALLERY, Measured, policy_of_many_tasks
from bench.reliability import faults_table, powercut_table, powercut_totals, totals
from bench.report import read_report, text
from bench.report.data import as_number, get, number, rows
from bench.runtime_block import runtime_block
from bench.seams.block import delay_block
from bench.seams.block import seams_block as jumps_block
from bench.structures import recipes_block, structures_block
from edgevla.errors import BadInput, EdgevlaError, Refused, explain
from edgevla.telemetry.host import host_line

ROOT = Path(__file__).resolve().parent.parent
DEMO, EVIDENCE = "bench/results/demo.json", "bench/results/metaworld/evidence.json"
EXPORT = "bench/results/export.json"
DELAY, SEAMS = "bench/results/delay.json", "bench/results/seams.json"
LOOP, STEADY, SOAK = (f"bench/results/{name}.json" for name in ("loop-windows", "steady", "soak"))
FAULTS, POWERCUT = "bench/results/faults-run.json", "bench/results/powercut.json"
BUS, FUZZ, CAN = (f"bench/results/{name}.json" for name in ("bus-run", "fuzz", "can"))
STRUCTURES = "bench/results/structures-run.json"
RECIPES = "bench/results/recipes.json"
MT10 = {
    **{
        name: f"bench/results/mt10/{name}.json"
        for name in ("evaluation", "realtime", "robustness", "ablations", "starts")
    },
    "gallery": f"{GALLERY}/gallery.json",
}
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
NOT_MEASURED = "not measured"
PICTURE = "docs/images/report.png"

MODELS = (  # row of the table, key of models{}, the two latency keys, key of success{}
    ("Teacher, torch eager", "teacher", ("p50_ms", "p99_ms"), "teacher"),
    ("Teacher, ONNX Runtime FP32", "teacher", ("ort_fp32_p50_ms", "ort_fp32_p99_ms"), None),
    ("Student, ONNX Runtime FP32", "student_fp32", ("p50_ms", "p99_ms"), "student_fp32"),
    ("**Student, ONNX Runtime int8**", "student_int8", ("p50_ms", "p99_ms"), "student_int8"),
)
CHECKED = {  # exit code of `edgevla check` in the demo
    0: "every claim kept",
    1: "a claim is BROKEN",
    3: "could not be bounded soundly on this host (exit code 3)",
}


@dataclass(frozen=True)
class Results:
    """What is committed; an absent file is an empty mapping."""

    demo: Mapping[str, Any]
    evidence: Mapping[str, Any]
    export: Mapping[str, Any]
    picture: bool  # whether there is one of the report
    folder: Path = Path("nowhere")  # of all of them: docs/benchmarks.md shows every one
    delay: Mapping[str, Any] = field(default_factory=dict)
    seams: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    steady: Mapping[str, Any] = field(default_factory=dict)
    soak: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, Any] = field(default_factory=dict)
    bus: Mapping[str, Any] = field(default_factory=dict)
    fuzz: Mapping[str, Any] = field(default_factory=dict)
    can: Mapping[str, Any] = field(default_factory=dict)
    powercut: Mapping[str, Any] = field(default_factory=dict)
    structures: Mapping[str, Any] = field(default_factory=dict)
    recipes: Mapping[str, Any] = field(default_factory=dict)
    mt10: Measured = field(default_factory=Measured, kw_only=True)


def load_results(root: Path) -> Results:
    """The files below `root`. Raises BadInput for one that is there and is no report, or an invented one."""
    names = (
        DEMO,
        EVIDENCE,
        EXPORT,
        DELAY,
        SEAMS,
        LOOP,
        STEADY,
        SOAK,
        FAULTS,
        BUS,
        FUZZ,
        CAN,
        POWERCUT,
        STRUCTURES,
        RECIPES,
    )
    paths = (root / name for name in names)
    demo, evidence, export, *timing = (read_report(path) if path.exists() else {} for path in paths)
    if demo.get("synthetic"):
        raise BadInput(explain(f"{DEMO} was not measured", "the report of a demo", "synthetic: true", "run make demo"))
    folder = root / "bench" / "results"
    return Results(demo, evidence, export, (root / PICTURE).exists(), folder, *timing, mt10=load_mt10(root))


def load_mt10(root: Path) -> Measured:
    """The files of bench/results/mt10, and its gallery. Raises BadInput for one that is no report, or
    an invented one."""
    found = {name: read_report(root / path) for name, path in MT10.items() if (root / path).exists()}
    for name in (name for name, result in found.items() if result.get("synthetic")):
        expected, todo = f"what examples.metaworld.mt.{name} measured", "measure it"
        raise BadInput(explain(f"{MT10[name]} was not measured", expected, "synthetic: true", todo))
    return Measured(**found)


# --- the blocks ---


def figures_block(results: Results) -> str:
    """README's block: the report's picture, models, budgets, control loop, wall time, evidence."""
    demo, evidence = results.demo, results.evidence
    picture = [f"![The report of the demo]({PICTURE})"] if results.picture else []
    parts = [
        *picture,
        _measured_by(demo),
        _models(demo),
        "Against the limits that were [written down beforehand](bench/budgets/demo.toml):",
        _budgets(demo),
        "In real time, over the serial line:",
        _loop(demo),
        f"Wall time: {_steps(demo)}.",
        f"Committed evidence. Host: {_host(evidence)}. Numbers: {_link(EVIDENCE, evidence)}.",
        _evidence(evidence),
        f"The exporter. Host: {_host(results.export)}. Numbers: {_link(EXPORT, results.export)}.",
        _export(results.export),
    ]
    return "\n\n".join(parts)


def policy_block(results: Results) -> str:
    """The block of docs/reference-policy.md: task by task, words, controls."""
    demo, evidence = results.demo, results.evidence
    parts = [
        f"Committed evidence. Host: {_host(evidence)}.",
        _evidence(evidence),
        "Teacher as its authors would run it (fresh noise at every inference), task by task:",
        _fresh_per_task(evidence),
        "Half-way scenes, episodes in which the joint moved the way the words say:",
        _halfway(evidence),
        f"The demo's own paired episodes, successes. Pairs: {_pairs(demo)}. Host: {_host(demo)}.",
        _demo_per_task(demo),
    ]
    return "\n\n".join(parts)


def mt10_block(results: Results) -> str:
    """The block of docs/policy.md: the policy of many tasks beside the published one."""
    return policy_of_many_tasks(results.mt10, _host)


def export_block(results: Results) -> str:
    """The block of docs/export.md."""
    return f"Host: {_host(results.export)}.\n\n{_export(results.export)}"


def seams_block(results: Results) -> str:
    """The block of docs/seams.md: success at 0 to 8 ticks of delay, and the jumps at seams."""
    delay, seams = results.delay, results.seams
    closed, jumps = delay_block(delay, _host(delay)), jumps_block(seams, _host(seams))
    return f"### Success\n\n{closed}\n\n### Jumps\n\n{jumps}"


def timing_block(results: Results) -> str:
    """The block of docs/runtime.md: its sections on what is bounded and what was observed."""
    return runtime_block(results.demo, results.loop, results.steady, results.soak, _host)


def reliability_block(results: Results) -> str:
    """The block of docs/reliability.md: what each fault did, and each chapter of the power-cut proof."""
    parts = []
    for title, found, said, (head, body) in (
        ("Faults of a running arm", results.faults, totals, faults_table(results.faults)),
        ("Power cut during a deploy", results.powercut, powercut_totals, powercut_table(results.powercut)),
    ):
        parts += [f"### {title}", f"Host: {_host(found)}. {said(found)}", _table(head, body) if body else NOT_MEASURED]
    return "\n\n".join(parts)


def bridge_block(results: Results) -> str:
    """The block of docs/bridge.md: protocol by protocol, and beside the makers' libraries."""
    return bus_block(results.bus, results.fuzz, results.can, _host)


def benchmarks_block(results: Results) -> str:
    """The block of docs/benchmarks.md: one table a subject, over every committed result."""
    return benchmarks(results.folder)


EXPORT_ROWS = {
    "int8_vs_ort_fp32": "reference student, int8 against ONNX Runtime FP32",
    "int8_vs_ort_fp32_4m": "the same at 4.7 M parameters (random weights)",
    "int8_vs_openvino": "int8 against OpenVINO's automatic choice, both inside the error budget",
    "int8_vs_openvino_4m": "the same at 4.7 M parameters (random weights)",
    "policy_vs_teacher_eager": "whole policy against the teacher in torch eager",
    "smolvla_vs_lerobot_fp32": "SmolVLA 450 M (random weights), one int8 pass against LeRobot's ten steps in FP32",
    "smolvla_rss_vs_fp32": "... its resident memory",
    "smolvla_vs_lerobot_bf16": "... against LeRobot with the VLM in bf16",
    "smolvla_rss_vs_bf16": "... its resident memory",
    "smolvla_fewer_vs_lerobot_fp32": "8 layers and 256 px pictures, against LeRobot's 16 layers and 512 px in FP32",
    "nf4_parameter_bytes_ratio": "teacher of 400 M in nf4, parameter bytes against FP32",
    "nf4_teacher_memory_ratio": "... resident memory while it loads, against FP32",
    "compress_s": "compression of the reference policy, teacher to bundle",
}


def _export(found: Mapping[str, Any]) -> str:
    if not get(found, "figures"):
        return NOT_MEASURED
    said = {True: "kept", False: "**missed**", None: ""}
    body = []
    for name, title in EXPORT_ROWS.items():
        figure = get(found, f"figures.{name}") or {}
        unit, value, goal = " s" if name.endswith("_s") else "x", as_number(figure.get("value")), figure.get("goal")
        ends = figure.get("interval") or []
        spread = f" ({ends[0]:.2f} to {ends[-1]:.2f})" if ends else ""
        shown = NOT_MEASURED if value is None else f"{value:.3g}{unit}{spread}"
        asked = "" if goal is None else f"{figure.get('sense')} {goal:g}{unit}"
        body.append((title, asked, shown, said[figure.get("kept")]))
    return _table(("figure", "goal", "measured (95 % interval)", ""), body)


def _measured_by(demo: Mapping[str, Any]) -> str:
    run = get(demo, "figures.latency_run")
    return (
        f"Measured by `make demo`. Host: {_host(demo)}. Latency: one interleaved run, "
        f"threads: {_shown(number(run, 'threads'), text.whole)}, rounds: {_shown(number(run, 'rounds'), text.whole)}. "
        f"Success: the same scenes for every model, pairs: {_pairs(demo)}. Numbers: {_link(DEMO, demo)}."
    )


def _models(demo: Mapping[str, Any]) -> str:
    head = ("", "parameters", "bytes", "multiply-adds a chunk", "p50", "p99", "success")
    body = []
    for title, model, (p50, p99), wins in MODELS:
        of = f"models.{model}."
        body.append(
            (
                title,
                _shown(number(demo, of + "parameters"), text.count),
                _shown(number(demo, of + "bytes"), text.size) if wins else "-",
                _shown(number(demo, of + "macs"), text.count),
                _shown(number(demo, of + p50), text.ms),
                _shown(number(demo, of + p99), text.ms),
                _shown(number(demo, f"success.{wins}"), text.percent) if wins else "-",
            )
        )
    return _table(head, body)


def _budgets(demo: Mapping[str, Any]) -> str:
    verdict = {True: "kept", False: "**missed**", None: ""}
    body = []
    for found in check_budgets(demo):
        limit = f"{text.SENSE[found.budget.sense]} {text.in_unit(found.budget.limit, found.budget.unit)}"
        measured = NOT_MEASURED if found.value is None else text.in_unit(found.value, found.budget.unit)
        body.append((found.budget.name, limit, measured, verdict[found.kept]))
    return _table(("figure", "limit", "measured", ""), body)


def _loop(demo: Mapping[str, Any]) -> str:
    loop = get(demo, "loop")
    best_effort = get(demo, "figures.ticks.best_effort")
    granted = {True: "not all granted (`--best-effort`)", False: "granted"}.get(best_effort, NOT_MEASURED)
    code = as_number(get(demo, "check_exit_code"))
    checked = NOT_MEASURED if code is None else CHECKED.get(int(code), f"failed with exit code {code:.0f}")
    episodes, won = number(loop, "episodes"), number(loop, "episodes_succeeded")
    body = [
        ("control ticks (80 Hz)", _shown(number(loop, "ticks"), text.whole)),
        ("late commands", _shown(number(loop, "late_commands"), text.whole)),
        ("servo misses", _shown(number(loop, "misses"), text.whole)),
        ("release misses", _shown(number(loop, "release_misses"), text.whole)),
        ("wake after deadline, p99", _microseconds(number(loop, "wake_p99_us"))),
        ("wake after deadline, p99.9", _microseconds(number(loop, "wake_p999_us"))),
        ("runs that succeeded", f"{won:.0f} of {episodes:.0f}" if won is not None and episodes else NOT_MEASURED),
        ("real-time priority, locked memory, core", granted),
        ("`edgevla check` on this host", checked),
    ]
    return _table(("control loop", "measured"), body)


def _steps(demo: Mapping[str, Any]) -> str:
    steps = get(demo, "steps_s")
    total = _shown(number(demo, "total_s"), text.seconds)
    if not isinstance(steps, Mapping) or not steps:
        return total
    named = ", ".join(f"{name} {_shown(as_number(value), text.seconds)}" for name, value in steps.items())
    return f"{total} ({named})"


def _evidence(evidence: Mapping[str, Any]) -> str:
    success = get(evidence, "success")
    fresh = get(success, "teacher_fresh")
    played = _shown(number(fresh, "episodes"), text.whole)
    controls = _shown(number(evidence, "control_episodes"), text.whole)
    body = [
        ("teacher, mean over six tasks", _shown(number(fresh, "mean"), text.percent), f"fresh scenes: {played}"),
        ("teacher, weakest task", _weakest(fresh), "goal: no task under 88 %"),
        ("int8 against its teacher, same scenes", _decision(evidence), _bound(evidence)),
        ("half-way scenes, teacher", _shown(number(success, "halfway_teacher"), text.percent), "held-out sentences"),
        ("half-way scenes, int8", _shown(number(success, "halfway_int8"), text.percent), "held-out sentences"),
        ("half-way scenes, blank words", _shown(number(success, "blank_words"), text.percent), "the control for words"),
        ("student, distilled", _shown(number(success, "distilled"), text.percent), f"scenes: {controls}"),
        (
            "student, demonstrations alone",
            _shown(number(success, "demos_only"), text.percent),
            "same scenes, same budget",
        ),
        ("student, without z", _shown(number(success, "without_z"), text.percent), "same scenes, same budget"),
    ]
    return _table(("evidence", "measured", "over"), body)


def _weakest(fresh: Any) -> str:
    shares = {task: as_number(value) for task, value in (get(fresh, "per_task") or {}).items()}
    known = {task: value for task, value in shares.items() if value is not None}
    if not known:
        return NOT_MEASURED
    task = min(known, key=lambda name: known[name])
    return f"{text.percent(known[task])} ({task})"


def _decision(evidence: Mapping[str, Any]) -> str:
    decision, margin = get(evidence, "sequential.decision"), number(evidence, "sequential.margin")
    if not isinstance(decision, str) or margin is None:
        return NOT_MEASURED
    return f"{decision} at {100 * margin:g} points"


def _bound(evidence: Mapping[str, Any]) -> str:
    looks = rows(evidence, "sequential.looks")
    if not looks:
        return NOT_MEASURED
    last = looks[-1]
    upper, pairs = as_number(last.get("upper_bound")), as_number(last.get("pairs"))
    return f"{_shown(pairs, text.whole)} pairs; loss at most {_shown(upper, text.percent)} (95 %, repeated looks)"


def _fresh_per_task(evidence: Mapping[str, Any]) -> str:
    shares = get(evidence, "success.teacher_fresh.per_task")
    if not isinstance(shares, Mapping) or not shares:
        return NOT_MEASURED
    body = [(task, _shown(as_number(value), text.percent)) for task, value in shares.items()]
    return _table(("task", "success"), body)


def _halfway(evidence: Mapping[str, Any]) -> str:
    found = rows(evidence, "halfway")
    if not found:
        return NOT_MEASURED
    body = [
        (
            str(row.get("scene", "?")),
            str(row.get("instruction", "?")),
            text.MODELS.get(str(row.get("model")), str(row.get("model", "?"))),
            " of ".join(_shown(as_number(row.get(key)), text.whole) for key in ("right", "episodes")),
        )
        for row in found
    ]
    return _table(("scene", "instruction", "model", "the named way"), body)


def _demo_per_task(demo: Mapping[str, Any]) -> str:
    found = rows(demo, "figures.per_task")
    if not found:
        return NOT_MEASURED
    keys = ("pairs", *text.MODELS, "only_teacher", "only_int8")
    body = [(str(row.get("task", "?")), *(_shown(as_number(row.get(k)), text.whole) for k in keys)) for row in found]
    return _table(("task", "pairs", *text.MODELS.values(), "only teacher", "only int8"), body)


BLOCKS: dict[str, Callable[[Results], str]] = {
    "README.md": figures_block,
    "docs/reference-policy.md": policy_block,
    "docs/policy.md": mt10_block,
    "docs/export.md": export_block,
    "docs/reliability.md": reliability_block,
    "docs/bridge.md": bridge_block,
    "docs/seams.md": seams_block,
    "docs/runtime.md": timing_block,
    "docs/benchmarks.md": benchmarks_block,
    "docs/structures.md": lambda results: "\n\n".join(
        (
            structures_block(results.structures, results.demo, _host(results.structures)),
            recipes_block(results.recipes, _host(results.recipes)),
        )
    ),
}


# --- small words ---


def _shown(value: float | None, form: Callable[[float | None], str]) -> str:
    return NOT_MEASURED if value is None else form(value)


def _microseconds(value: float | None) -> str:
    return NOT_MEASURED if value is None else text.duration(value * 1e3)


def _pairs(demo: Mapping[str, Any]) -> str:
    return _shown(number(demo, "success.pairs"), text.whole)


def _link(path: str, result: Mapping[str, Any]) -> str:
    return f"[{path}]({path})" if result else f"{path} ({NOT_MEASURED})"


def _host(result: Mapping[str, Any]) -> str:
    host = get(result, "host")
    if not isinstance(host, Mapping):
        return NOT_MEASURED
    at = host.get("measured_at")
    return host_line(host) + (f", {at}" if at else "")


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# --- the files ---


def with_block(document: str, block: str, name: str) -> str:
    """`document` with what stands between its markers replaced. Raises BadInput without one pair of markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        got = f"{document.count(BEGIN)} and {document.count(END)}"
        raise BadInput(explain(f"{name} has no block", f"{BEGIN} and {END}, once each", got, "put the markers back"))
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def render(root: Path) -> dict[Path, tuple[str, str]]:
    """Per document, and the picture of the curves: as it stands ("" where it is not there), as it should stand."""
    results = load_results(root)
    found = {}
    for name, block in BLOCKS.items():
        document = (root / name).read_text(encoding="utf-8")
        found[root / name] = (document, with_block(document, block(results), name))
    if results.mt10.robustness:
        picture = root / CURVES
        now = picture.read_text(encoding="utf-8") if picture.exists() else ""
        found[picture] = (now, curves.svg(results.mt10.robustness))
    return found


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Rewrite the blocks, or with --check only compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.readme", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a block is out of date")
    check = parser.parse_args(argv).check
    try:
        documents = render(root)
        stale = [path for path, (now, wanted) in documents.items() if now != wanted]
        if check and stale:
            names = ", ".join(path.name for path in stale)
            todo = "python -m bench.readme, and commit what it wrote"
            raise Refused(explain("figures are out of date", "the committed results", names, todo))
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for path in [] if check else stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(documents[path][1], encoding="utf-8")
        print(f"wrote {path.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
