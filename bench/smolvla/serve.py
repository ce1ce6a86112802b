"""One-pass SmolVLA on ONNX Runtime, in a process of its own: one inference per line of stdin.

    python -m bench.smolvla.serve FOLDER INPUTS [--format int8|fp32]

Imports NumPy and ONNX Runtime only: the resident memory it prints is what a robot pays.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

STAGES = ("vision", "prefix", "head")
OUTPUTS = {"vision": ("vision",), "prefix": ("keys", "values", "present"), "head": ("chunk",), "step": ("chunk",)}


def open_stage(path: Path) -> Any:
    """A session on one thread, without the memory arena, which holds what it once took."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_stage(session: Any, stage: str, values: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a stage by name, fed from `values`."""
    feeds = {put.name: values[put.name] for put in session.get_inputs()}
    return dict(zip(OUTPUTS[stage], session.run(None, feeds), strict=True))


def one_pass(sessions: dict[str, Any], inputs: dict[str, Any]) -> Any:
    """The chunk (1, H, Z)."""
    values = dict(inputs)
    for stage, session in sessions.items():
        values.update(run_stage(session, stage, values))
    return values["chunk"]


def resident_mb() -> dict[str, float]:
    """VmRSS and VmHWM of this process, MB (10^6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"rss_mb": kilobytes["VmRSS"] * 1024 / 1e6, "peak_mb": kilobytes["VmHWM"] * 1024 / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--format", choices=("int8", "fp32"), default="int8")
    arguments = parser.parse_args()
    sessions = {stage: open_stage(arguments.folder / f"{stage}.{arguments.format}.onnx") for stage in STAGES}
    with np.load(arguments.inputs) as file:
        inputs = dict(file)
    print(json.dumps({"ready": True, **resident_mb()}), flush=True)
    for _ in sys.stdin:
        start = time.monotonic_ns()
        one_pass(sessions, inputs)
        print(json.dumps({"ns": time.monotonic_ns() - start, **resident_mb()}), flush=True)


if __name__ == "__main__":
    main()
