"""int8 beside ONNX Runtime FP32, OpenVINO and the teacher in torch eager: one interleaved run, one thread, whole
policies from raw camera bytes to chunk, and how far each one's chunks are from FP32.

python -m bench.compare BUNDLE --data DIR --out FILE

Any bundle with FP32 graphs. The teacher is measured where it is ours (`--teacher`). Beside a one-pass student stands
the same architecture at width 384 (above 4 M parameters) with random weights: speed does not depend on them; its action
errors are those of an untrained policy, and say little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.bundle.wiring import WORDS
from edgevla.cli.output import print_error, print_table, say
from edgevla.errors import BadInput, EdgevlaError, explain
from edgevla.policy.preprocess import pictures, prefix_tensors, state_tensor
from edgevla.telemetry.host import describe_host, host_line
from edgevla.telemetry.interleaved import Interleaved, measure
from export.data.interface import RobotDataset
from export.data.load import open_dataset
from export.onnx.stages import export_stage
from export.parity.recorded import golden_feeds
from export.quantize.artifact import quantize
from export.search.engines import Chain, Feeds, interface_of, openvino_chain, ort_chain, with_stages
from export.search.error import ActionError, Budget, action_error, parse_budget
from export.search.frames import bundle_frames, float_graphs
from export.students.onepass import OnePassStudent
from export.teachers.engine import TeacherEngine
from export.teachers.folder import Teacher, load_teacher

SCHEMA = "edgevla.compare/1"
ROUNDS = 1000
SETTLE = 2  # untimed calls before each timed one: every candidate with warm caches, as in its own loop
WIDE = {"width": 384, "heads": 6}  # above 4 M parameters
OUR_TEACHER, OUR_STUDENT = "flow-teacher", f"{OnePassStudent.kind}-student"  # names in a manifest
FORMS = ("fp32", "int8", "openvino", "openvino-nncf-int8")


@dataclass(frozen=True)
class Model:
    """One student: FP32 and int8 graphs by stage, in the order they run.

    once: stages that run once per instruction, in FP32. times: of the last stage, where it is a flow.
    """

    name: str
    parameters: int
    once: Mapping[str, bytes]
    floats: Mapping[str, bytes]
    int8: Mapping[str, bytes]
    times: tuple[float, ...]
    artifact: str
    note: str


@dataclass(frozen=True)
class Form:
    """One student in one engine, and its error against its own FP32."""

    name: str  # student/form
    chain: Chain
    known: Feeds  # what is fed to every chunk alike: noise, words and what was made of them once
    precision: str
    error: ActionError
    share: float  # of the error budget


@dataclass(frozen=True)
class Figure:
    """What is claimed: how many times `slow` takes of `fast`, at least `goal`."""

    name: str
    slow: str
    fast: str
    goal: float


def bundle_model(bundle: Bundle) -> Model:
    """What the bundle ships, and its FP32 graphs. Raises BadInput: it has none."""
    graphs, fixed, times = float_graphs(bundle)
    once, floats = _parted(graphs, fixed)
    manifest = bundle.manifest
    int8 = {name: bundle.model(name) for name in floats}
    return Model("bundle", manifest.student.parameters, once, floats, int8, times, manifest.artifact, "as shipped")


def wide_model(bundle: Bundle) -> Model | None:
    """A one-pass student at width 384, random weights; None where the bundle has another kind.

    Raises:
        BadInput: the bundle does not say its sizes.
    """
    if bundle.manifest.student.name != OUR_STUDENT:
        return None
    sizes = bundle.manifest.recipe.get("student")
    torch.manual_seed(0)
    try:
        student = OnePassStudent.from_config({**dict(sizes or {}), **WIDE}).eval()
    except (TypeError, ValueError) as error:
        raise BadInput(explain("recipe of the bundle", "sizes of its student", sizes, "export it again")) from error
    stages = student.stages()
    fixed = frozenset(stage.name for stage in stages if set(stage.inputs) <= set(WORDS))
    once, floats = _parted({stage.name: export_stage(stage) for stage in stages}, fixed)
    int8 = {name: quantize(graph, "dynamic-s8") for name, graph in floats.items()}
    return Model("width-384", student.parameters_total, once, floats, int8, (), "cpu-dynamic-s8", "random weights")


def _parted(graphs: Mapping[str, bytes], fixed: frozenset[str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Those that run once per instruction, and the others."""
    once = {name: graph for name, graph in graphs.items() if name in fixed}
    return once, {name: graph for name, graph in graphs.items() if name not in fixed}


def forms(model: Model, bundle: Bundle, data: tuple[Sequence[Feeds], Sequence[Feeds]], budget: Budget) -> list[Form]:
    """FP32, int8, OpenVINO and OpenVINO after NNCF of one student, with their errors over the frames."""
    frames, calibration = (with_stages(model.once, part) for part in data)
    floats, times, channels = model.floats, model.times, bundle.manifest.channels
    chains = [(ort_chain(floats, times), "f32"), (ort_chain(model.int8, times), model.artifact)]
    chains += [openvino_chain(floats, times), openvino_chain(floats, times, int8_frames=calibration)]
    constant = {*WORDS, "noise", *(name for graph in model.once.values() for name in interface_of(graph)[1])}
    (golden,) = with_stages(model.once, [golden_feeds(bundle)])
    known = {name: value for name, value in golden.items() if name in constant and value is not None}
    committed = np.concatenate([feeds["prefix_mask"] for feeds in frames])
    reference, found = _chunks(chains[0][0], frames, len(channels)), []
    for name, (chain, precision) in zip(FORMS, chains, strict=True):
        error = action_error(reference, _chunks(chain, frames, len(channels)), committed, channels)
        found.append(Form(f"{model.name}/{name}", chain, known, precision, error, budget.share(error)))
    return found


def _chunks(chain: Chain, frames: Sequence[Feeds], actions: int) -> Any:
    """(F, H, A). Copied: an engine may answer in memory that it writes again."""
    return np.concatenate([np.array(chain(feeds)[..., :actions]) for feeds in frames])


def policy(form: Form, bundle: Bundle) -> Callable[[], Any]:
    """From the raw camera bytes of a golden vector to the chunk, as `PolicyEngine.infer`.

    Of past observations only the newest is new; those before it are kept, as there.
    """
    golden, manifest, stats = next(iter(bundle.golden.values())), bundle.manifest, bundle.stats
    seen = golden_feeds(bundle)
    past = {name: seen[name][:, : seen[name].shape[1] * (manifest.observations - 1) // manifest.observations]
            for name in ("image", "camera_mask", "state")}  # fmt: skip

    def infer() -> Any:
        rows, mask = prefix_tensors(golden.prefix, manifest.timing.horizon, manifest.timing.d_max)
        pixels, present = pictures(golden.images, manifest.cameras)
        state = state_tensor(golden.state, stats.state_offset, stats.state_scale)
        feeds = {"image": pixels[None], "camera_mask": present[None], "state": state}
        if manifest.observations > 1:
            feeds = {name: np.concatenate([past[name], value], axis=1) for name, value in feeds.items()}
        chunk = form.chain({**form.known, **feeds, "prefix": rows, "prefix_mask": mask})
        return chunk[..., : len(manifest.channels)]

    return infer


def our_teacher(folder: Path, bundle: Bundle) -> Teacher | None:
    """The teacher of the bundle; None where it is not ours. Raises BadInput: the folder holds another."""
    told = bundle.manifest.teacher
    if told.name != OUR_TEACHER:
        return None
    teacher = load_teacher(folder)
    if teacher.sha256 != told.sha256:
        expected, got = f"the bundle's, sha256 {told.sha256[:16]}...", f"{teacher.sha256[:16]}..."
        raise BadInput(explain(f"teacher {folder}", expected, got, "give the teacher of this bundle with --teacher"))
    return teacher


def teacher_policy(teacher: Teacher, bundle: Bundle) -> Callable[[], object]:
    """The teacher in torch eager on one thread: the observation encoded once, keys and values cached."""
    golden = next(iter(bundle.golden.values()))
    engine = TeacherEngine(teacher, bundle.noise)
    engine.set_instruction(golden.instruction)
    (image,) = golden.images.values()  # it has one camera
    return lambda: engine.infer(image, golden.state, golden.prefix)


def figures(models: Sequence[Model], teacher: bool) -> list[Figure]:
    """What the issue asks for; the goal against FP32 is 2.2 from 4 M parameters on, else 2."""
    found = []
    for model in models:
        goal = 2.2 if model.parameters >= 4e6 else 2.0
        suffix = "" if model.name == "bundle" else "_4m"
        found.append(Figure(f"int8_vs_ort_fp32{suffix}", f"{model.name}/fp32", f"{model.name}/int8", goal))
        found.append(Figure(f"int8_vs_openvino{suffix}", f"{model.name}/openvino", f"{model.name}/int8", 1.0))
    if teacher:
        found.append(Figure("policy_vs_teacher_eager", "teacher_eager", "bundle/int8", 20.0))
    return found


def result(
    run: Interleaved, asked: Sequence[Figure], models: Sequence[Model], found: Sequence[Form], budget: Budget
) -> dict[str, Any]:
    """Figures with their intervals, errors and raw latencies. A figure is kept where its whole interval reaches it;
    the one against OpenVINO only where the errors of both stay inside the budget."""
    shares = {form.name: form.share for form in found}
    lines = {}
    for figure in asked:
        ratio = run.ratio(figure.slow, figure.fast)
        inside = not figure.name.startswith("int8_vs_openvino") or max(shares[figure.slow], shares[figure.fast]) <= 1
        kept = ratio.low >= figure.goal and inside
        lines[figure.name] = {**ratio.as_dict(), "goal": figure.goal, "kept": kept, "errors_inside_budget": inside}
    return {
        "schema": SCHEMA,
        "figures": lines,
        "models": {m.name: {"parameters": m.parameters, "artifact": m.artifact, "note": m.note} for m in models},
        "forms": {f.name: {"precision": f.precision, "share": f.share, **f.error.as_dict()} for f in found},
        "budget": budget.as_dict(),
        "summary": run.summary(),
        "run": {"rounds": run.rounds, "seed": run.seed, "wall_s": run.wall_s, "stolen_s": run.stolen_s, "threads": 1},
        "latencies_ns": run.as_figures(),
        "host": describe_host(),
    }


def show(found: Mapping[str, Any]) -> None:
    """The figures, and every policy with its latency and errors."""
    rows = []
    for name, times in found["summary"].items():
        form = found["forms"].get(name)
        errors = "-" if form is None else ", ".join(f"{c['name']} {c['p99']:.2g} {c['unit']}" for c in form["channels"])
        rows.append(
            (name, "torch eager" if form is None else form["precision"], f"{times['p50_ms']:.3f}",
             f"{times['p99_ms']:.3f}", errors, "-" if form is None else f"{form['share']:.2f}")
        )  # fmt: skip
    print_table("policies", ("policy", "precision", "p50 ms", "p99 ms", "p99 error against FP32", "of budget"), rows)
    print_table(
        "figures",
        ("figure", "times", "95 % interval", "goal", "errors inside budget", ""),
        [
            (name, f"{f['median']:.2f}", f"{f['low']:.2f} to {f['high']:.2f}", f"{f['goal']:g}",
             "yes" if f["errors_inside_budget"] else "NO", "kept" if f["kept"] else "BROKEN")
            for name, f in found["figures"].items()
        ],
    )  # fmt: skip
    for name, model in found["models"].items():
        say(f"{name}: {model['parameters']:,} parameters, {model['artifact']}, {model['note']}")
    say(f"budget of the p99: {found['budget']}; rounds: {found['run']['rounds']}; {host_line(found['host'])}")


def compare(
    bundle: Bundle, data: RobotDataset, teacher_folder: Path, budget_text: str, rounds: int, limit_s: float
) -> dict[str, Any]:
    """All of it. Raises BadInput: unusable files, or OpenVINO or NNCF are not installed."""
    torch.set_num_threads(1)
    teacher = our_teacher(teacher_folder, bundle)
    budget = parse_budget(budget_text, bundle.manifest.channels)
    models = [model for model in (bundle_model(bundle), wide_model(bundle)) if model is not None]
    frames = bundle_frames(bundle, data)
    parts = (frames.judged, frames.calibration)
    found = [form for model in models for form in forms(model, bundle, parts, budget)]
    calls: dict[str, Callable[[], object]] = {form.name: policy(form, bundle) for form in found}
    if teacher is not None:
        calls["teacher_eager"] = teacher_policy(teacher, bundle)
    run = measure(calls, rounds, warmup=20, settle=SETTLE, limit_s=limit_s)
    return {**result(run, figures(models, teacher is not None), models, found, budget), "frames": frames.note}


def main() -> int:
    """Command line; the exit codes of edgevla. Exit 1 when a figure is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--teacher", type=Path, default=Path("examples/metaworld/teacher"))
    parser.add_argument("--work", type=Path, default=Path("out/compare"), help="for decoded video")
    parser.add_argument("--error-budget", default="", help="such as x=0.005,flips=0.01; p99, units of the channels")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--limit-s", type=float, default=180.0)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    asked = parser.parse_args()
    try:
        bundle = open_bundle(asked.bundle)
        data = open_dataset(asked.data, asked.work)
        found = compare(bundle, data, asked.teacher, asked.error_budget, asked.rounds, asked.limit_s)
    except EdgevlaError as error:
        print_error(str(error))
        return error.exit_code
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    part = asked.out.with_name(f".{asked.out.name}.part")
    part.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(part, asked.out)
    show(found)
    return 0 if all(figure["kept"] for figure in found["figures"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
