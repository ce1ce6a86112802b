"""Teacher and student, float and int8, in one interleaved run on one thread.

python -m examples.metaworld.latency --bundle out/student.bundle --teacher examples/metaworld/teacher
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevla.bundle.reader import Bundle, open_bundle
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.preprocess import image_tensor, prefix_tensors, state_tensor
from edgevla.telemetry.interleaved import Interleaved, measure
from export.channels import TRAINING_CAMERA
from export.onnx.teacher import OnnxTeacher
from export.quantize.graph import load, multiply_adds
from export.teachers.engine import TeacherEngine
from export.teachers.folder import Teacher, load_teacher

ROUNDS = 1000
SETTLE = 2  # untimed calls before each timed one: every candidate with warm caches, as in its own loop
DELAY = 2  # ticks of prefix, as on the host profile


def measure_models(bundle: Bundle, teacher: Teacher, rounds: int = ROUNDS, limit_s: float = 120.0) -> Interleaved:
    """Whole policies from raw camera bytes to chunk: teacher eager and ONNX FP32, student FP32 and int8."""
    torch.set_num_threads(1)
    golden = next(iter(bundle.golden.values()))
    prefix = np.zeros((DELAY, len(bundle.manifest.channels)), np.float32)
    int8 = PolicyEngine(bundle)
    engines: dict[str, PolicyEngine | TeacherEngine] = {
        "teacher_eager": TeacherEngine(teacher, bundle.noise),
        "student_fp32": PolicyEngine(bundle, float_model=True),
        "student_int8": int8,
    }
    callables: dict[str, Callable[[], object]] = {}
    for name, engine in engines.items():
        engine.set_instruction(golden.instruction)
        callables[name] = _bind(engine, golden.images["corner"], golden.state, prefix)
    callables["teacher_fp32"] = _teacher_fp32(bundle, teacher, golden, prefix)
    # The words are encoded once per instruction, not once per chunk: no stage of this latency.
    probes = {"student_int8": lambda: {k: v for k, v in int8.stage_ns.items() if k != "text"}}
    return measure(callables, rounds, warmup=20, settle=SETTLE, probes=probes, limit_s=limit_s)


def _bind(engine: Any, image: Any, state: Any, prefix: Any) -> Callable[[], object]:
    return lambda: engine.infer(image, state, prefix)


def _teacher_fp32(bundle: Bundle, teacher: Teacher, golden: Any, prefix: Any) -> Callable[[], object]:
    onnx, config = OnnxTeacher(teacher.model), teacher.model.config
    tokens = teacher.vocabulary.encode(golden.instruction)[None]

    def infer() -> object:
        feeds = {
            "image": image_tensor(golden.images["corner"], TRAINING_CAMERA),
            "tokens": tokens,
            "state": state_tensor(golden.state, teacher.state_mean, teacher.state_std),
        }
        rows, mask = prefix_tensors(prefix, config.horizon, config.d_max)
        return onnx.infer(feeds, bundle.noise[None], rows, mask)

    return infer


def model_table(bundle: Bundle, teacher: Teacher, teacher_folder: Path, run: Interleaved) -> dict[str, Any]:
    """`models{}` of report.json."""
    summary, manifest = run.summary(), bundle.manifest
    graphs = OnnxTeacher(teacher.model).graphs
    macs = {name: sum(multiply_adds(load(graph)).values()) for name, graph in graphs.items()}
    steps = teacher.model.config.flow_steps
    student_macs = int(manifest.recipe["multiply_adds"])
    student = {"parameters": manifest.student.parameters, "macs": student_macs}

    def timing(name: str) -> dict[str, float]:
        return {key: round(summary[name][key], 4) for key in ("p50_ms", "p99_ms")}

    return {
        "teacher": {
            "parameters": teacher.parameters,
            "bytes": (teacher_folder / "model.safetensors").stat().st_size,
            "macs": macs["encode"] + steps * macs["step"],
            **timing("teacher_eager"),
            "ort_fp32_p50_ms": timing("teacher_fp32")["p50_ms"],
            "ort_fp32_p99_ms": timing("teacher_fp32")["p99_ms"],
        },
        "student_fp32": {**student, "bytes": bundle.total_bytes("float/"), **timing("student_fp32")},
        "student_int8": {**student, "bytes": bundle.total_bytes("model/"), **timing("student_int8")},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    bundle, teacher = open_bundle(arguments.bundle), load_teacher(arguments.teacher)
    run = measure_models(bundle, teacher, arguments.rounds)
    ratios = [run.ratio(slow, "student_int8").as_dict() for slow in ("student_fp32", "teacher_eager", "teacher_fp32")]
    print(json.dumps({"models": model_table(bundle, teacher, arguments.teacher, run), "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
