"""A policy with its graphs as a bundle: manifest, statistics, words, cameras, golden vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla import __version__
from edgevla.bundle.arrays import npy_bytes
from edgevla.bundle.manifest import WORDS_FILE, Camera
from edgevla.bundle.parts import (
    TOKENIZER_FILE,
    CameraFile,
    Golden,
    Stats,
    cameras_bytes,
    json_bytes,
    sampled,
    stats_bytes,
    tokens_bytes,
    vocabulary_bytes,
)
from edgevla.policy.words import tokenizer
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.png import encode_png
from export.embodiment import Embodiment
from export.onnx.chain import blank_memory, onnx_stage, run_chain
from export.onnx.stages import IR_VERSION, OPSET, StageSpec, interface
from export.parity.frames import Frames
from export.parity.stages import StageParity
from export.quantize.graph import load, multiply_adds
from export.students.interface import Feeding, SavedStudent, teacher_feeding
from export.teachers.interface import TeacherPolicy, TeacherSpec

Array = npt.NDArray[Any]
GOLDEN_VECTORS = 6
PAD = 0  # of tokens; the mask says that they are none
SUFFIXES = ("", "\n")  # that policies put behind an instruction
# int8 on another CPU may round another way: golden vectors allow this much, in normalised action units
GOLDEN_TOLERANCE = 0.02
ARTIFACT_NAMES = {
    "dynamic-s8": "cpu-dynamic-s8",
    "static-qdq": "cpu-static-qdq",
    "nbits8": "cpu-nbits8",
    "nbits4": "cpu-nbits4",
    "trt": "trt-qdq",
    "fp16": "fp16",
    "fp32": "fp32",
}  # kind of `export.quantize.artifact` -> of the manifest


@dataclass(frozen=True)
class Policy:
    """What is exported: a student, or a teacher as it is."""

    stages: tuple[StageSpec, ...]
    feeding: Feeding
    spec: TeacherSpec  # of the teacher: names, statistics, horizon
    d_max: int
    noise: Array | None  # (H, Z)
    name: str
    sha256: str
    parameters: int
    config: Mapping[str, Any]
    memory_ticks: int = 0  # between observations, of a policy that remembers; 0: of none


def student_policy(saved: SavedStudent, teacher: TeacherPolicy) -> Policy:
    """A distilled student."""
    student = saved.student
    stages = tuple(student.stages())
    remembers = bool(blank_memory(stages))
    return Policy(
        stages=stages,
        feeding=replace(saved.feeding, observations=1) if remembers else saved.feeding,
        spec=teacher.spec,
        d_max=student.d_max,
        noise=student.fixed_noise.numpy() if student.noise else None,
        name=f"{student.kind}-student",
        sha256=saved.sha256,
        parameters=student.parameters_total,
        config=student.to_config(),
        memory_ticks=teacher.spec.stride if remembers else 0,
    )


def direct_policy(teacher: TeacherPolicy, noise: Array | None) -> Policy:
    """The teacher itself. Raises Refused: it has no stages."""
    spec = teacher.spec
    stages = tuple(teacher.stages())
    observations = 1 if blank_memory(stages) else spec.observations  # one that remembers is shown the newest alone
    feeding = teacher_feeding(teacher, observations)
    needed = {name for stage in stages for name in stage.inputs}
    d_max = spec.d_max if "prefix" in needed else 0
    takes_noise = bool(needed & {"noise", "noisy"})
    return Policy(
        stages, feeding, spec, d_max, noise if takes_noise else None, spec.name, teacher.sha256,
        teacher.parameters_total, {}, spec.stride if blank_memory(stages) else 0,
    )  # fmt: skip


@dataclass(frozen=True)
class Graphs:
    """One artifact and the float it came from, by stage."""

    kind: str  # of `export.quantize.artifact`
    model: Mapping[str, bytes]
    floats: Mapping[str, bytes]
    scales: bytes | None = None  # weight scales that int8 artifacts of these graphs share


@dataclass(frozen=True)
class Words:
    """What the bundle hears: sentences of the dataset, the teacher that cuts them, a tokenizer file for others."""

    sentences: Sequence[str]
    known: Mapping[str, Any]  # for a policy of words: task -> instructions
    teacher: TeacherPolicy
    tokenizer: bytes | None


def bundle_files(
    policy: Policy,
    graphs: Graphs,
    words: Words,
    cameras: Sequence[Camera],
    embodiment: Embodiment,
    golden: Sequence[Golden],
    evidence: Mapping[str, Any],
) -> dict[str, bytes | Path]:
    """Every file but the manifest."""
    frames = {name: encode_png(image) for name, image in golden[0].images.items()}
    files: dict[str, bytes | Path] = {
        **{f"model/{name}.onnx": graph for name, graph in graphs.model.items()},
        **{f"float/{name}.onnx": graph for name, graph in graphs.floats.items()},
        **{f"golden/{i:02d}.npz": vector.to_bytes() for i, vector in enumerate(golden)},
        **_word_files(policy, words),
        **{f"cameras/{name}.png": png for name, png in frames.items()},
        **{f"evidence/{name}.json": json_bytes(value) for name, value in evidence.items()},
        "stats.json": stats_bytes(_stats(policy.spec, embodiment)),
        "cameras.toml": cameras_bytes(
            [CameraFile(camera, f"cameras/{camera.name}.png" if camera.name in frames else None) for camera in cameras]
        ),
    }
    if graphs.scales is not None:
        files["scales.safetensors"] = graphs.scales
    return files if policy.noise is None else {**files, "noise.npy": npy_bytes(policy.noise)}


def _stats(spec: TeacherSpec, embodiment: Embodiment) -> Stats:
    state, action = spec.state_stats, spec.action_stats
    units = {"state": [s.unit for s in embodiment.state], "action": [a.unit for a in embodiment.actions]}
    return Stats(state.offset, state.scale, action.offset, action.scale, units)


def _word_files(policy: Policy, words: Words) -> dict[str, bytes]:
    feeding = policy.feeding
    if feeding.words:
        return {WORDS_FILE["words"]: vocabulary_bytes(list(feeding.words), feeding.max_tokens, words.known)}
    if not feeding.teacher_tokens:
        return {WORDS_FILE["tokens"]: tokens_bytes({text: [] for text in words.sentences or ("act",)})}
    known = {}
    for text in words.sentences:
        ids, mask = words.teacher.tokenize(text)
        known[text] = ids[mask > 0].tolist()
    suffix = None if words.tokenizer is None else same_suffix(tokenizer(words.tokenizer), known)
    files = {WORDS_FILE["tokens"]: tokens_bytes(known, PAD, suffix or "")}
    return files if words.tokenizer is None or suffix is None else {**files, TOKENIZER_FILE: words.tokenizer}


def same_suffix(cut: Callable[[str], list[int]], known: Mapping[str, Sequence[int]]) -> str | None:
    """What is put behind a sentence so that the tokenizer file alone gives the teacher's own tokens of all of them.

    None: nothing does (the teacher adds tokens that the file does not, as pi0 does). Then the robot must not cut new
    sentences by it, and the file stays out of the bundle.
    """
    same = (s for s in SUFFIXES if all(cut(text + s) == list(ids) for text, ids in known.items()))
    return next(same, None)


def camera_map(policy: Policy, embodiment: Embodiment, sizes: Mapping[str, tuple[int, int]]) -> tuple[Camera, ...]:
    """Cameras of the manifest. sizes: raw (height, width) by the policy's camera names; an absent one is left out."""
    rates = {camera.name: camera.rate_hz for camera in embodiment.cameras}
    made = []
    for camera in policy.feeding.cameras:
        height, width = sizes.get(camera.name, (camera.height, camera.width))
        made.append(
            Camera(
                camera.name,
                width,
                height,
                3,
                "rgb",
                rates[camera.name],
                input_width=camera.width,
                input_height=camera.height,
                fit=camera.fit,
                when_missing=camera.when_missing,
            )
        )
    return tuple(made)


def golden_vectors(
    policy: Policy, sessions: Mapping[str, Any], frames: Frames, cameras: Sequence[Camera], state: Array
) -> list[Golden]:
    """Raw camera bytes and state in, what the artifact answers out, per stage. state: raw, float32 (n, S) by tick."""
    run = onnx_stage(sessions)
    vectors = []
    for i in range(min(GOLDEN_VECTORS, len(frames))):
        values = run_chain(policy.stages, frames.first(i), run)
        row = {key: value[i] for key, value in frames.rows.items()}
        pictures = frames.source.pictures(row["seen"][None, -1:])
        shown = zip(cameras, pictures, frames.source.present, strict=True)
        outputs = {f"{stage.name}.{name}": sampled(values[name]) for stage in policy.stages for name in stage.outputs}
        actions = row["actions"].shape[-1]
        vectors.append(
            Golden(
                images={camera.name: picture[0] for camera, picture, there in shown if there},
                state=state[row["tick"]],
                instruction=frames.source.sentences[row["sentence"]],
                prefix=row["actions"][: row["depth"]],
                outputs=outputs,
                chunk=np.ascontiguousarray(values["chunk"][0, :, :actions]),
                tolerance=GOLDEN_TOLERANCE,
            )
        )
    return vectors


def manifest_of(
    name: str,
    policy: Policy,
    teacher: TeacherPolicy,
    graphs: Graphs,
    cameras: Sequence[Camera],
    embodiment: Embodiment,
    period_s: float,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """manifest.json without `schema` and `files`."""
    each = [stage.name for stage in policy.stages if not set(stage.inputs) <= {"tokens", "token_mask"}]
    stats = policy.spec.action_stats
    words = "words" if policy.feeding.words else "tokens"
    hears = bool(policy.feeding.words) or policy.feeding.teacher_tokens
    return {
        "name": name,
        "created_with": f"edgevla {__version__}",
        "artifact": ARTIFACT_NAMES[graphs.kind],
        "arm": embodiment.arm,
        "target": embodiment.target,
        "timing": timing_of(policy, period_s),
        "channels": [
            {
                **{key: getattr(a, key) for key in ("name", "kind", "space", "frame", "unit", "minimum", "maximum")},
                "scale": float(stats.scale[i]),
                "offset": float(stats.offset[i]),
            }
            for i, a in enumerate(embodiment.actions)
        ],
        "state": [asdict(state) for state in embodiment.state],
        "cameras": [asdict(camera) for camera in cameras],
        "observations": policy.feeding.observations,
        "text": {"kind": words, "max_tokens": policy.feeding.max_tokens if hears else 0},
        "stages": [interface(stage, f"model/{stage.name}.onnx") for stage in policy.stages],
        "float_stages": [interface(s, f"float/{s.name}.onnx") for s in policy.stages if s.name in graphs.floats],
        "start_low": [a.start_minimum for a in embodiment.actions],
        "start_high": [a.start_maximum for a in embodiment.actions],
        "teacher": {"name": teacher.spec.name, "sha256": teacher.sha256, "parameters": teacher.parameters_total},
        "student": {"name": policy.name, "sha256": policy.sha256, "parameters": policy.parameters},
        "recipe": {
            **recipe,
            "multiply_adds": sum(sum(multiply_adds(load(graphs.floats[stage])).values()) for stage in each),
            "student": dict(policy.config),
        },
        "opset": OPSET,
        "ir_version": IR_VERSION,
    }


def timing_of(policy: Policy, period_s: float) -> dict[str, Any]:
    """T, H, d_max, and of a policy that remembers the spacing of its observations."""
    timing = {"period_s": period_s, "horizon": policy.spec.horizon, "d_max": policy.d_max}
    return {**timing, "memory_ticks": policy.memory_ticks} if policy.memory_ticks else timing


def parity_evidence(rows: Sequence[StageParity], embodiment: Embodiment) -> dict[str, Any]:
    """evidence/parity.json."""
    units = [f"{a.name} [{a.unit}]" for a in embodiment.actions]
    return {"rows": [row.as_dict() for row in rows], "channels": units, "host": describe_host()}
