"""The steps behind `edgevla compress`: distil, export, quantize, compare, pack."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edgevla import __version__
from edgevla.bundle.arrays import npy_bytes
from edgevla.bundle.parts import (
    CameraFile,
    Golden,
    Stats,
    cameras_bytes,
    json_bytes,
    sampled,
    stats_bytes,
    vocabulary_bytes,
)
from edgevla.bundle.reader import Bundle
from edgevla.bundle.writer import write_bundle
from edgevla.control.realtime import die_with_parent
from edgevla.errors import BadInput, EdgevlaError, explain
from edgevla.policy.engine import open_session
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.png import encode_png
from export.channels import (
    ACTION_HIGH,
    ACTION_LOW,
    ACTION_SCALE,
    PERIOD_S,
    STATE,
    TRAINING_CAMERA,
    action_channels,
)
from export.distill.dataset import Batches, Demonstrations, Sampling, normalise_image
from export.onnx.cost import multiply_adds
from export.onnx.stages import IR_VERSION, OPSET, export_stage, interface
from export.parity.stages import StageParity, require_float_parity, stage_parity
from export.quantize.dynamic import quantize
from export.request import Request, require_files
from export.students.onepass import OnePassStudent, StudentConfig
from export.teachers.folder import Teacher, load_teacher

PARITY_FRAMES = 300
GOLDEN_VECTORS = 6
# int8 on another CPU may round another way: golden vectors allow this much, in normalised action units
GOLDEN_TOLERANCE = 0.02
STAGES = ("text", "vision", "head")


@dataclass(frozen=True)
class Result:
    """What came out."""

    bundle: Bundle
    parity: list[StageParity]
    steps_s: Mapping[str, float]


def compress(request: Request) -> Result:
    """Runs all steps; what a killed run had finished is taken up again.

    Raises:
        BadInput: teacher or data are unusable, or the bundle cannot be written.
        Refused: a parity gate failed.
    """
    require_files(request)
    teacher, data = load_teacher(request.teacher), Demonstrations(request.data)
    require_same_words(teacher, data)
    work = request.work / fingerprint(request, teacher)
    steps: dict[str, float] = {}
    started = time.monotonic()
    run_distillation(request, work)
    steps["distil"] = time.monotonic() - started
    started = time.monotonic()
    student, student_sha = load_student(work / request.mode / "student.safetensors")
    bundle, parity = pack(request, teacher, data, student, student_sha, work)
    steps["export"] = time.monotonic() - started
    return Result(bundle, parity, steps)


def require_same_words(teacher: Teacher, data: Demonstrations) -> None:
    """Word ids of the dataset go into the teacher: they must mean the same words."""
    theirs, ours = teacher.vocabulary.words, tuple(data.meta["vocabulary"])
    if theirs != ours:
        got = f"{len(ours)} words, without {sorted(set(theirs) - set(ours))}, and {sorted(set(ours) - set(theirs))}"
        raise BadInput(
            explain("words of the dataset", f"the teacher's {len(theirs)} words in its order", got, "record it again")
        )


def fingerprint(request: Request, teacher: Teacher) -> str:
    """Names the work folder: the same teacher, data and recipe resume, anything else starts anew.

    Not the mode: a control takes up the targets of the distillation that it is compared with.
    """
    data = _data_sums(request.data)
    recipe = [teacher.sha256, teacher.meta.get("noise"), data, request.seed, request.examples, request.budget]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def _data_sums(folder: Path) -> list[Any]:
    """sha256 of dataset.json, and the CRC-32 of every array, which its shard lists: instant at any size."""
    raw = (folder / "dataset.json").read_bytes()
    sums: list[Any] = [hashlib.sha256(raw).hexdigest()]
    for shard in json.loads(raw)["shards"]:
        with ZipFile(folder / shard["file"]) as archive:
            sums.append([(array.filename, array.file_size, array.CRC) for array in archive.infolist()])
    return sums


def run_distillation(request: Request, work: Path) -> None:
    """Starts the distillation on `request.processes` cores, unless its result is already there.

    Raises:
        EdgevlaError: the training processes failed.
        KeyboardInterrupt: passed on after they have ended.
    """
    if (work / request.mode / "student.safetensors").exists():
        return
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(request.processes),
        "-m", "export.distill.student", "--teacher", str(request.teacher), "--data", str(request.data),
        "--work", str(work), "--budget", request.budget, "--seed", str(request.seed), "--mode", request.mode,
        "--examples", str(request.examples),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    work.mkdir(parents=True, exist_ok=True)
    end_with_us = partial(die_with_parent, os.getpid(), signal.SIGTERM)  # however this process ends, even by SIGKILL
    with subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=end_with_us) as process:
        try:
            code = process.wait()
        except BaseException:
            _end_at_once(process)
            raise
    if code:
        raise EdgevlaError(
            explain("distillation", "processes that end with 0", f"exit code {code}", "see their message above")
        )


def _end_at_once(launcher: subprocess.Popen[bytes]) -> None:
    """Ends launcher and workers. Asked to end itself, torchrun would print a traceback: so it is not asked."""
    launcher.send_signal(signal.SIGSTOP)  # from here on it starts no worker
    workers = [int(pid) for task in Path(f"/proc/{launcher.pid}/task").glob("*/children") for pid in _words(task)]
    for pid in (launcher.pid, *workers):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    launcher.wait()


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # the thread has ended
        return []


def load_student(path: Path) -> tuple[OnePassStudent, str]:
    """The trained student and the sha256 of its weights."""
    try:
        with safe_open(path, framework="pt") as archive:
            config = json.loads(archive.metadata()["config"])
            weights = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
        student = OnePassStudent(StudentConfig(**config))
        student.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise BadInput(
            explain("student weights", f"a whole {path.name}", str(error), "delete it and run again")
        ) from error
    return student.eval(), hashlib.sha256(path.read_bytes()).hexdigest()


def pack(
    request: Request, teacher: Teacher, data: Demonstrations, student: OnePassStudent, student_sha: str, work: Path
) -> tuple[Bundle, list[StageParity]]:
    """Exports, quantizes, compares and writes the bundle."""
    specs = student.stages()
    floats = {spec.name: export_stage(spec) for spec in specs}
    # The words are encoded once per instruction: int8 would save nothing there.
    int8 = {name: graph if name == "text" else quantize(graph) for name, graph in floats.items()}
    sessions = {
        form: {name: open_session(graph, f"{form} {name}") for name, graph in graphs.items()}
        for form, graphs in (("fp32", floats), ("int8", int8))
    }
    noise = student.fixed_noise
    frames, raw = parity_frames(teacher, data, student.config, torch.as_tensor(noise), request.seed)
    rows = stage_parity(specs, sessions, frames)
    require_float_parity(rows, specs)
    golden = golden_vectors(sessions["int8"], frames, raw, data)
    files: dict[str, bytes | Path] = {
        **{f"model/{name}.onnx": graph for name, graph in int8.items()},
        **{f"float/{name}.onnx": graph for name, graph in floats.items()},
        **{f"golden/{i:02d}.npz": vector.to_bytes() for i, vector in enumerate(golden)},
        "noise.npy": npy_bytes(torch.as_tensor(noise).numpy()),
        "stats.json": stats_bytes(
            Stats(
                teacher.state_mean,
                teacher.state_std,
                np.zeros_like(ACTION_SCALE),
                ACTION_SCALE,
                {"state": [u for _, u in STATE], "action": ["m", "m", "m", "1"]},
            )
        ),
        "text/vocab.json": vocabulary_bytes(
            list(teacher.vocabulary.words), teacher.vocabulary.max_tokens, data.meta["known_instructions"]
        ),
        "cameras.toml": cameras_bytes([CameraFile(TRAINING_CAMERA, "cameras/corner.png")]),
        "cameras/corner.png": encode_png(raw["image"][0]),
        "evidence/parity.json": json_bytes({"rows": [row.as_dict() for row in rows], "host": describe_host()}),
    }
    interfaces = {folder: [interface(s, f"{folder}/{s.name}.onnx") for s in specs] for folder in ("model", "float")}
    manifest = manifest_of(request, teacher, student, student_sha, interfaces, floats)
    return write_bundle(request.out, manifest, files), rows


def manifest_of(
    request: Request,
    teacher: Teacher,
    student: OnePassStudent,
    student_sha: str,
    interfaces: Mapping[str, list[dict[str, Any]]],
    floats: Mapping[str, bytes],
) -> dict[str, Any]:
    """manifest.json without `schema` and `files`."""
    return {
        "name": request.out.stem,
        "created_with": f"edgevla {__version__}",
        "artifact": "cpu-dynamic-s8",
        "arm": "metaworld-sawyer",
        "target": "host",
        "timing": {"period_s": PERIOD_S, "horizon": student.config.horizon, "d_max": student.config.d_max},
        "channels": action_channels(),
        "state": [{"name": name, "unit": unit} for name, unit in STATE],
        "cameras": [asdict(TRAINING_CAMERA)],
        "observations": 1,
        "text": {"kind": "words", "max_tokens": student.config.max_tokens},
        "stages": interfaces["model"],
        "float_stages": interfaces["float"],
        "start_low": [round(float(v), 6) for v in ACTION_LOW],
        "start_high": [round(float(v), 6) for v in ACTION_HIGH],
        "teacher": {"name": "flow-teacher", "sha256": teacher.sha256, "parameters": teacher.parameters},
        "student": {
            "name": "one-pass-student",
            "sha256": student_sha,
            "parameters": sum(p.numel() for p in student.parameters()),
        },
        "recipe": {
            "mode": request.mode,
            "budget": request.budget,
            "seed": request.seed,
            "examples": request.examples,
            "processes": request.processes,
            "multiply_adds": sum(multiply_adds(floats[name]) for name in ("vision", "head")),
            "student": student.config.to_dict(),
        },
        "opset": OPSET,
        "ir_version": IR_VERSION,
    }


def parity_frames(
    teacher: Teacher, data: Demonstrations, config: StudentConfig, noise: Tensor, seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Real frames as stage inputs, and the raw camera bytes, states and prefixes behind them."""
    rng = np.random.default_rng(seed + 1)
    ticks = rng.integers(len(data), size=PARITY_FRAMES)
    sampling = Sampling(config.horizon, config.d_max, config.max_tokens, word_dropout=0.0)
    batches = Batches(data, sampling, 1, seed + 2, (teacher.state_mean, teacher.state_std))
    batch = batches.at(ticks)
    image = np.stack([data.image[s][f] for s, f in zip(batch["shard"].tolist(), batch["frame"].tolist(), strict=True)])
    frames = {
        "image": normalise_image(torch.from_numpy(image)),
        "tokens": batch["tokens"],
        "state": batch["state"],
        "noise": noise.expand(PARITY_FRAMES, -1, -1).contiguous(),
        "prefix": batch["actions"] * batch["mask"],
        "prefix_mask": batch["mask"],
    }
    return frames, {"image": image, "state": data.state[ticks], "depth": batch["mask"].sum((1, 2)).int().tolist()}


def golden_vectors(
    sessions: Mapping[str, Any], frames: Mapping[str, Tensor], raw: Mapping[str, Any], data: Demonstrations
) -> list[Golden]:
    """Raw camera bytes and state in, what the artifact answers out, per stage."""
    words = ("", *data.meta["vocabulary"])
    vectors = []
    for i in range(GOLDEN_VECTORS):
        row = {name: value[i : i + 1].numpy() for name, value in frames.items()}
        text = sessions["text"].run(None, {"tokens": row["tokens"]})[0]
        vision = sessions["vision"].run(None, {"image": row["image"]})[0]
        names = ("state", "noise", "prefix", "prefix_mask")
        chunk = sessions["head"].run(None, {"vision": vision, "text": text, **{n: row[n] for n in names}})[0]
        sentence = " ".join(words[token] for token in row["tokens"][0] if token)
        prefix = row["prefix"][0, : raw["depth"][i]]
        answers = {"text.text": text, "vision.vision": vision, "head.chunk": chunk}
        outputs = {name: sampled(value) for name, value in answers.items()}
        images = {TRAINING_CAMERA.name: raw["image"][i]}
        vectors.append(Golden(images, raw["state"][i], sentence, prefix, outputs, chunk[0], GOLDEN_TOLERANCE))
    return vectors
