"""Everything that engines need of a case, made once, in a process of its own that gives its memory back.

    python -m bench.peers.make FOLDER --bundle BUNDLE [--data DIR]      the student of a bundle
    python -m bench.peers.make FOLDER --smolvla 60m [--whole out/smolvla]

Files are written whole or not at all; what is there is not made again. A form that cannot be made is no error: the case
says why, and so does its row.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.case import Case, Feeds, load_frames, once, save, save_frames, write
from bench.peers.sizes import SIZES
from edgevla.errors import BadInput, EdgevlaError, explain

FRAMES, CALIBRATION = 32, 64  # of a data set; of random numbers: RANDOM of both
RANDOM = 4


def from_bundle(folder: Path, path: Path, data: Path | None) -> Case:
    """The student of a bundle with FP32 graphs, its weights read back for torch, frames of its data or golden ones."""
    from bench.compare import bundle_model
    from bench.peers.modules import weights_from_graphs
    from edgevla.bundle.reader import open_bundle
    from export.search.engines import interface_of, with_stages
    from export.search.frames import float_graphs

    bundle = open_bundle(path)
    model = bundle_model(bundle)
    if model.times:
        todo = "give a one-pass student"
        raise BadInput(explain(f"{path}", "a policy of one pass", f"{len(model.times)} flow steps", todo))
    for stage, graph in model.floats.items():
        write(folder / f"{stage}.fp32.onnx", graph)
        write(folder / f"{stage}.int8.onnx", model.int8[stage])
    judged, calibration, note = _frames(bundle, data)
    judged, calibration = ([dict(f) for f in with_stages(model.once, part)] for part in (judged, calibration))
    save_frames(folder, _stacked(judged, model.floats))
    module: dict[str, Any] = {}
    failed: dict[str, str] = {}
    config = bundle.manifest.recipe.get("student")
    try:
        weights = weights_from_graphs(config or {}, float_graphs(bundle)[0])
        with tempfile.TemporaryFile() as file:
            np.savez(file, **weights)  # type: ignore[arg-type]
            file.seek(0)
            write(folder / "weights.npz", file.read())
        module = {"kind": "student", "config": config}
    except (BadInput, TypeError, ValueError) as error:
        failed["torch"] = _why(error)
    case = Case(
        "reference student", model.parameters, f"{model.artifact}; {note}", tuple(model.floats),
        {name: interface_of(graph)[1] for name, graph in model.floats.items()}, len(bundle.manifest.channels),
        model.artifact, module, "", failed,
    )  # fmt: skip
    return _finished(folder, case, calibration)


def _frames(bundle: Any, data: Path | None) -> tuple[list[Any], list[Any], str]:
    """Frames to judge on, to calibrate on, and where they come from."""
    if data is not None:
        from export.data.load import open_dataset
        from export.search.frames import bundle_frames

        with tempfile.TemporaryDirectory(prefix="edgevla-peers-") as work:
            opened = open_dataset(data, Path(work), progress=False)
            found = bundle_frames(bundle, opened, FRAMES, CALIBRATION)
        return list(found.judged), list(found.calibration), f"{FRAMES} real frames"
    from edgevla.policy.engine import PolicyEngine

    engine, frames = PolicyEngine(bundle), []
    for golden in bundle.golden.values():
        engine.set_instruction(golden.instruction)
        frames.append(dict(engine.trace(golden.images, golden.state, golden.prefix)))
    return frames, frames, f"{len(frames)} golden frames, calibrated on the same"


def _stacked(frames: list[Feeds], graphs: Mapping[str, bytes]) -> dict[str, Any]:
    """What the stages take from outside."""
    from export.search.engines import interface_of

    faces = [interface_of(graph) for graph in graphs.values()]
    made = {name for _, outputs in faces for name in outputs}
    wanted = {name for inputs, _ in faces for name in inputs} - made
    return {name: np.concatenate([np.asarray(frame[name]) for frame in frames]) for name in sorted(wanted)}


def smolvla(folder: Path, size: str, whole: Path) -> Case:
    """SmolVLA in one pass, random weights: the graphs of bench/smolvla, or a smaller stand-in of the architecture."""
    from bench.peers.modules import stages_of

    if size == "450m":
        ready = whole / "graphs" / "one-pass"
        if not (ready / "parity.json").is_file():
            todo = "make smolvla (half an hour, 9 GB), or --size 60m"
            raise BadInput(explain(f"{ready}", "the graphs of bench/smolvla", "not there", todo))
        module: dict[str, Any] = {
            "kind": "smolvla",
            "folder": str((whole / "policy").resolve()),
            "vlm": str((whole / "vlm").resolve()),
        }
        note, shared = "the public model's sizes", str(ready.resolve())
    else:
        module, shared = {"kind": "smolvla", "sizes": dict(SIZES[size])}, ""
        note = f"stand-in of {size}: the same architecture, smaller"
    stages = stages_of(module, folder)
    parameters = sum(p.numel() for p in _modules(stages).parameters())
    if not shared:
        _export(folder, stages)
    made = {name for stage in stages for name in stage.outputs}
    outside = {n: t for stage in stages for n, t in stage.inputs.items() if n not in made}
    save_frames(folder, _random(outside))
    case = Case(
        "smolvla", parameters, f"{note}, random weights, {RANDOM} random frames", tuple(s.name for s in stages),
        {s.name: s.outputs for s in stages}, _actions(stages), "cpu-dynamic-s8", module, shared,
    )  # fmt: skip
    del stages
    return _finished(folder, case, load_frames(folder))


def _modules(stages: Any) -> Any:
    from torch import nn

    return nn.ModuleList(stage.module for stage in stages)


def _actions(stages: Any) -> int:
    return int(stages[-1].inputs["prefix"].shape[-1])


def _export(folder: Path, stages: Any) -> None:
    from export.onnx.stages import export_stage
    from export.quantize.dynamic import quantize
    from export.quantize.tables import quantize_tables

    for stage in stages:
        once(folder / f"{stage.name}.fp32.onnx", lambda stage=stage: export_stage(stage))  # type: ignore[misc]
        raw = folder / f"{stage.name}.fp32.onnx"
        int8 = folder / f"{stage.name}.int8.onnx"
        once(int8, lambda raw=raw: quantize_tables(quantize(raw.read_bytes())))  # type: ignore[misc]


def _random(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """RANDOM frames like the example inputs: pictures and state drawn anew, words and masks as they are."""
    rng, found = np.random.default_rng(0), {}
    for name, tensor in inputs.items():
        rows = np.repeat(tensor.numpy(), RANDOM, 0)
        if name == "image":
            rows = rng.uniform(-1, 1, rows.shape).astype(np.float32)
        elif name in ("state", "noise"):
            rows = rng.standard_normal(rows.shape).astype(np.float32)
        found[name] = rows
    return found


def _finished(folder: Path, case: Case, calibration: list[Feeds]) -> Case:
    """The forms that others made of it: float16, and NNCF's int8."""
    failed = dict(case.failed)
    forms: dict[str, Callable[[], None]] = {
        "fp16": lambda: _half(folder, case),
        "nncf": lambda: _nncf(folder, case, calibration),
    }
    for form, make in forms.items():
        try:
            make()
        except Exception as error:  # any library's own: it is what the row says
            failed[form] = _why(error)
    finished = Case(**{**vars(case), "failed": failed})
    save(folder, finished)
    return finished


def _half(folder: Path, case: Case) -> None:
    """By ONNX Runtime's own converter with its defaults, which also moves constants into the range of float16."""
    for stage in case.stages:
        source = case.graph(folder, stage, "fp32")
        once(folder / f"{stage}.fp16.onnx", lambda source=source: _float16(source.read_bytes()))  # type: ignore[misc]


def _float16(graph: bytes) -> bytes:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load_model_from_string(graph)
    half = convert_float_to_float16(model, keep_io_types=True)
    half.ir_version = model.ir_version
    OnnxModel(half).topological_sort()  # the converter appends its casts at the end
    return bytes(half.SerializeToString())


def _nncf(folder: Path, case: Case, calibration: list[Feeds]) -> None:
    """`nncf.quantize` with its defaults, over the frames that there are."""
    if (folder / "nncf.xml").is_file():
        return
    import nncf
    import openvino

    from export.search.engines import merged

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = openvino.Core().read_model(merged(case.graphs(folder, "fp32")), b"")
    names = [port.get_any_name() for port in model.inputs]
    frames = [{name: frame[name] for name in names} for frame in calibration]
    done = nncf.quantize(model, nncf.Dataset(frames), subset_size=len(frames))
    openvino.save_model(done, folder / ".nncf.part.xml", compress_to_fp16=False)
    os.replace(folder / ".nncf.part.bin", folder / "nncf.bin")
    os.replace(folder / ".nncf.part.xml", folder / "nncf.xml")


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def main() -> int:
    """Exit code of edgevla; the last line of stderr says why."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.make")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--smolvla", choices=("450m", *SIZES))
    parser.add_argument("--whole", type=Path, default=Path("out/smolvla"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    asked.folder.mkdir(parents=True, exist_ok=True)
    try:
        if asked.bundle is not None:
            from_bundle(asked.folder, asked.bundle, asked.data)
        else:
            smolvla(asked.folder, asked.smolvla, asked.whole)
    except EdgevlaError as error:
        print(str(error), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
