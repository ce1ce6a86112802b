"""Students with random weights, exported and quantized by our own quantizer, in a process of its own.

    python -m bench.scaling.build FOLDER < points.json       [{"name": "a", "config": {...}}, ...]

FOLDER/NAME/: vision.onnx and head.onnx (dynamic int8), inputs.npz, point.json, which comes last. What is there is kept.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.case import write

EVERY = ("vision", "head")  # `text` runs once per instruction


def build(folder: Path, config: dict[str, Any]) -> None:
    import torch

    from export.onnx.stages import export_stage
    from export.quantize.dynamic import quantize
    from export.students.onepass import OnePassStudent

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    student = OnePassStudent.from_config(config).eval()
    parameters = student.parameters_total
    inputs: dict[str, Any] = {}
    stages = [stage for stage in student.stages() if stage.name in EVERY]
    for stage in stages:
        inputs |= {f"{stage.name}/{name}": tensor.numpy() for name, tensor in stage.inputs.items()}
        graph = export_stage(stage)
        write(folder / f"{stage.name}.onnx", quantize(graph))
        del graph
        gc.collect()
    buffer = io.BytesIO()
    np.savez(buffer, **inputs)
    write(folder / "inputs.npz", buffer.getvalue())
    write(folder / "point.json", json.dumps({"parameters": parameters, "config": config}).encode())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling.build")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for point in json.load(sys.stdin):
        if not (folder / point["name"] / "point.json").is_file():
            build(folder / point["name"], point["config"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
