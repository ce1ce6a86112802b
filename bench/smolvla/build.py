"""Full-size graphs of SmolVLA: exported, quantized, and compared with torch, in a process of its own.

    python -m bench.smolvla.build WORK VARIANT

Every file is written under a temporary name first; one that is there is not made again.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.smolvla.serve import STAGES, one_pass, open_stage, run_stage

D_MAX = 8  # ticks of prefix that the student's head takes
FRAMES = 4  # of random inputs for parity at full size


@dataclass(frozen=True)
class Variant:
    """What the one-pass student keeps of the whole model. None: everything."""

    layers: int | None = None
    image_side: int | None = None


VARIANTS = {
    "one-pass": Variant(),
    "one-pass, 8 layers": Variant(layers=8),
    "one-pass, 256 px": Variant(image_side=256),
    "one-pass, 8 layers, 256 px": Variant(layers=8, image_side=256),
}


def folder_of(work: Path, name: str) -> Path:
    return work / "graphs" / name.replace(", ", "-").replace(" ", "-")


def build(work: Path, name: str) -> None:
    """Graphs, inputs and parity of one variant, whatever of it is not there yet."""
    target = folder_of(work, name)
    target.mkdir(parents=True, exist_ok=True)
    stages = (*STAGES, "step") if name == "one-pass" else STAGES
    wanted = [target / f"{stage}.fp32.onnx" for stage in stages] + [target / "inputs.npz"]
    if not all(path.is_file() for path in wanted):
        _export(work, target, VARIANTS[name], ten_steps=name == "one-pass")
    for stage in STAGES:
        _once(target / f"{stage}.int8.onnx", lambda stage=stage: _quantized(target / f"{stage}.fp32.onnx"))  # type: ignore[misc]
    if not (target / "parity.json").is_file():
        _write(target / "parity.json", json.dumps(parity(target), indent=1).encode())


def _export(work: Path, target: Path, variant: Variant, ten_steps: bool) -> None:
    import torch

    from export.onnx.stages import export_stage
    from export.teachers.lerobot.folder import open_folder
    from export.teachers.lerobot.smolvla import SmolVlaPolicy
    from export.teachers.lerobot.smolvla import build as build_policy
    from export.teachers.lerobot.smolvla_smaller import smaller

    torch.set_num_threads(1)
    whole = build_policy(open_folder(work / "policy"), tokenizer=work / "vlm")
    policy = whole if variant == Variant() else smaller(whole, variant.layers, variant.image_side)
    # `as_student` would copy 1.6 GB of weights that nobody trains here.
    student = SmolVlaPolicy(policy.net, replace(policy.spec, d_max=D_MAX), policy.words, policy.sha256, flow_steps=1)
    frames = random_frames(student, FRAMES)
    _once(target / "torch.npz", lambda: _torch_answers(student, policy, frames, ten_steps))
    specs = [*student.stages(), *(policy.stages()[2:] if ten_steps else [])]
    for spec in specs:
        _once(target / f"{spec.name}.fp32.onnx", lambda spec=spec: export_stage(spec))  # type: ignore[misc]
        gc.collect()
    _once(target / "frames.npz", lambda: _npz(frames))
    _once(target / "inputs.npz", lambda: _npz({key: value[:1] for key, value in frames.items()}))


def random_frames(policy: Any, count: int) -> dict[str, Any]:
    """Observations of random numbers, with a short instruction, no prefix rows and every camera there."""
    spec, rng = policy.spec, np.random.default_rng(0)
    cameras, side = len(spec.cameras), spec.cameras[0].height
    words = (np.arange(spec.max_tokens) < spec.max_tokens // 4).astype(np.float32)
    normal = rng.standard_normal
    return {
        "image": rng.uniform(-1, 1, (count, cameras, side, side, 3)).astype(np.float32),
        "camera_mask": np.ones((count, cameras), np.float32),
        "tokens": rng.integers(0, 64, (count, spec.max_tokens)).astype(np.int64),
        "token_mask": np.repeat(words[None], count, 0),
        "state": normal((count, len(spec.state))).astype(np.float32),
        "noise": normal((count, spec.horizon, spec.noise)).astype(np.float32),
        "prefix": np.zeros((count, spec.horizon, len(spec.actions)), np.float32),
        "prefix_mask": np.zeros((count, spec.horizon, 1), np.float32),
    }


def _torch_answers(student: Any, teacher: Any, frames: dict[str, Any], ten_steps: bool) -> bytes:
    """Chunks (frames, H, A) of the torch policy, in one step and in ten."""
    import torch

    answers: dict[str, list[Any]] = {"one": [], "ten": []}
    with torch.inference_mode():
        for i in range(len(frames["image"])):
            inputs = {key: torch.from_numpy(value[i : i + 1]) for key, value in frames.items()}
            flow = (inputs["noise"], inputs["prefix"], inputs["prefix_mask"])
            context = student.encode(inputs)
            answers["one"].append(student.decode(context, *flow).numpy())
            if ten_steps:
                answers["ten"].append(teacher.decode(context, *flow).numpy())
    return _npz({key: np.concatenate(value) for key, value in answers.items() if value})


def parity(target: Path) -> list[dict[str, Any]]:
    """torch against ONNX FP32 in one step and in ten, and FP32 against int8, over the actions of all frames."""
    with np.load(target / "torch.npz") as file:
        answers = dict(file)
    with np.load(target / "frames.npz") as file:
        frames = dict(file)
    actions = answers["one"].shape[-1]
    chunks = {form: _chunks(target, form, frames)[..., :actions] for form in ("fp32", "int8")}
    rows = [compare("torch, one step", "fp32", answers["one"], chunks["fp32"])]
    if "ten" in answers:
        ten = _ten_steps(target, frames)[..., :actions]
        rows.append(compare("torch, ten steps", "fp32", answers["ten"], ten))
    rows.append(compare("fp32, one step", "int8", chunks["fp32"], chunks["int8"]))
    return rows


def compare(stage: str, form: str, expected: Any, got: Any) -> dict[str, Any]:
    """One row over frames (n, H, A), normalised."""
    from export.parity.stages import Tally

    tally = Tally()
    for row, answer in zip(expected, got, strict=True):
        tally.add([row], [answer])
        tally.add_chunk(row[None], answer[None])
    return tally.row(stage, form, np.ones(expected.shape[-1])).as_dict()


def _chunks(target: Path, form: str, frames: dict[str, Any]) -> Any:
    sessions = {stage: open_stage(target / f"{stage}.{form}.onnx") for stage in STAGES}
    return np.concatenate([one_pass(sessions, _row(frames, i)) for i in range(len(frames["image"]))])


def _ten_steps(target: Path, frames: dict[str, Any]) -> Any:
    from export.teachers.lerobot.flow import euler_times

    sessions = {stage: open_stage(target / f"{stage}.fp32.onnx") for stage in ("vision", "prefix", "step")}
    chunks = []
    for i in range(len(frames["image"])):
        values = _row(frames, i)
        for stage in ("vision", "prefix"):
            values.update(run_stage(sessions[stage], stage, values))
        values["chunk"] = values["noise"]
        for time in euler_times(10):
            values["noisy"], values["t"] = values["chunk"], np.array([time], np.float32)
            values.update(run_stage(sessions["step"], "step", values))
        chunks.append(values["chunk"])
    return np.concatenate(chunks)


def _row(frames: dict[str, Any], index: int) -> dict[str, Any]:
    return {key: value[index : index + 1] for key, value in frames.items()}


def _quantized(path: Path) -> bytes:
    from export.quantize.dynamic import quantize
    from export.quantize.tables import quantize_tables

    return quantize_tables(quantize(path.read_bytes()))


def _npz(arrays: dict[str, Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _once(path: Path, make: Callable[[], bytes]) -> None:
    if not path.is_file():
        _write(path, make())


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("variant", choices=VARIANTS)
    arguments = parser.parse_args()
    build(arguments.work, arguments.variant)


if __name__ == "__main__":
    main()
