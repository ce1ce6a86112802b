"""What a large teacher takes in each precision: bytes, resident memory, time and error of one observation.

    python -m bench.teacher_memory --out bench/results/teacher-memory.json

SmolVLA at full size with random weights, written once as fp32 safetensors to out/teacher-memory/. Each precision runs
in a process of its own. The baseline is that process after its imports, before it builds or loads anything. Peaks
are sampled every 2 ms while loading, and while answering; `hwm` is the kernel's own peak of the load. RssAnon is memory
of the process; RssFile is pages of mapped files: libraries, touched for the first time, and the checkpoint, of which
only one tensor is mapped at a time. Everything judged here is VmRSS, the sum of both. The row `nf4-whole` is the
usual way: `load_file`, then quantize.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgevla.cli.output import print_table
from edgevla.errors import BadInput, EdgevlaError, Refused, explain
from edgevla.telemetry.host import describe_host

SCHEMA = "edgevla.teacher-memory/1"
FOLDER = Path("out/teacher-memory")
ROWS = ("fp32", "bf16", "int8", "nf4", "nf4-whole")
BYTES_GOAL, RESIDENT_GOAL = 0.25, 0.45  # nf4 over fp32
LEAST_PARAMETERS = 400_000_000
SAMPLE_S = 0.002
FLOW_STEPS = 10
FIELDS = {"rss": "VmRSS", "anon": "RssAnon", "file": "RssFile"}


def status_bytes(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise BadInput(explain("/proc/self/status", field, "no such line", "run on Linux"))


def resident() -> dict[str, int]:
    return {name: status_bytes(field) for name, field in FIELDS.items()}


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Peaks of VmRSS, RssAnon and RssFile inside, and the kernel's own high-water mark, once it is left."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    peak, done = resident(), threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            for name, value in resident().items():
                peak[name] = max(peak[name], value)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak["hwm"] = status_bytes("VmHWM")


def above(values: Mapping[str, int], baseline: Mapping[str, int]) -> dict[str, int]:
    return {name: value - baseline["rss" if name == "hwm" else name] for name, value in values.items()}


def measure_one(row: str, path: Path) -> dict[str, Any]:
    """Loads and answers once, in this process. The chunk is saved beside the weights."""
    import numpy as np
    import torch

    import export.teachers.bnb  # noqa: F401 - part of the baseline of every row
    from export.teachers.lerobot.smolvla_net import SmolVla, SmolVlaSizes
    from export.teachers.precision import load_layerwise, parameter_bytes, safetensors_source

    torch.set_num_threads(1)
    baseline = resident()
    started = time.perf_counter()
    with watched() as loading:
        with torch.device("meta"):
            net = SmolVla(SmolVlaSizes())
        net.vlm.vision_model.embeddings.places = net.sizes.places()
        source = _whole(path) if row == "nf4-whole" else safetensors_source(path)
        load_layerwise(net, source, row.removesuffix("-whole"), path.name)
        del source
    load_s, loaded, held = time.perf_counter() - started, resident(), parameter_bytes(net)
    with watched() as answering, torch.inference_mode():
        started = time.perf_counter()
        chunk = answer(net)
        answer_s = time.perf_counter() - started
    np.save(path.with_name(f"chunk-{row}.npy"), chunk.numpy())
    return {
        "parameter_bytes": sum(held.values()),
        "by_dtype": held,
        "baseline": baseline,
        "loaded": above(loaded, baseline),
        "loading_peak": above(loading, baseline),
        "answering_peak": above(answering, baseline),
        "load_s": load_s,
        "answer_s": answer_s,
    }


def _whole(path: Path) -> Iterator[tuple[str, Any]]:
    """Every tensor, all of them in memory until the last is taken."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    yield from tensors.items()


def answer(net: Any) -> Any:
    """One observation of one camera, ten flow steps: the velocity field integrated from fixed noise."""
    import torch

    generator = torch.Generator().manual_seed(0)
    side, sizes = net.sizes.image_side, net.sizes
    image = 2 * torch.rand(1, 1, side, side, 3, generator=generator) - 1
    tokens = torch.randint(0, sizes.vlm.vocabulary, (1, 48), generator=generator)
    state = torch.randn(1, sizes.max_state_dim, generator=generator)
    x = torch.randn(1, sizes.chunk_size, sizes.max_action_dim, generator=generator)
    scene = net.remember(net.see(image), torch.ones(1, 1), tokens, torch.ones(1, 48), state)
    for step in range(FLOW_STEPS):
        times = torch.full((1, sizes.chunk_size), 1 - step / FLOW_STEPS)
        x = x - net.velocity(x, times, scene) / FLOW_STEPS
    return x


def write_weights(path: Path) -> int:
    """Random weights of SmolVLA as fp32 safetensors, whole or not at all. Returns the number of parameters."""
    import torch
    from safetensors.torch import save_file

    from export.teachers.lerobot.smolvla_net import SmolVla, SmolVlaSizes

    torch.manual_seed(0)
    net = SmolVla(SmolVlaSizes())
    count = sum(p.numel() for p in net.parameters())
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(".part.safetensors")
        save_file(net.state_dict(), part)
        os.replace(part, path)
    return count


def run_child(arguments: list[str]) -> Any:
    """This module in a process of its own, one thread; the JSON of its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench.teacher_memory", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(explain(" ".join(arguments), "a measurement", done.stderr.strip()[-600:], "see the message"))
    return json.loads(done.stdout.splitlines()[-1])


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Ratios of nf4 to fp32: parameter bytes, peak of the load, and peak with the first answer.

    The peak of nf4 stands over what fp32 holds after its load, which is the smallest that fp32 could do with.
    """
    nf4, fp32 = rows["nf4"], rows["fp32"]
    peak = max(nf4["loading_peak"]["rss"], nf4["loading_peak"]["hwm"])
    whole = rows["nf4-whole"]["loading_peak"]
    return {
        "nf4_parameter_bytes_ratio": nf4["parameter_bytes"] / fp32["parameter_bytes"],
        "nf4_teacher_memory_ratio": peak / fp32["loaded"]["rss"],
        "nf4_answering_memory_ratio": nf4["answering_peak"]["hwm"] / fp32["answering_peak"]["hwm"],
        "nf4_loaded_whole_ratio": max(whole["rss"], whole["hwm"]) / fp32["loaded"]["rss"],
    }


def add_errors(rows: Mapping[str, dict[str, Any]], folder: Path) -> None:
    """Cosine and relative rms of each answer against fp32's."""
    import numpy as np

    wanted = np.load(folder / "chunk-fp32.npy").ravel().astype(np.float64)
    for name, row in rows.items():
        got = np.load(folder / f"chunk-{name}.npy").ravel().astype(np.float64)
        row["cosine"] = float(got @ wanted / (np.linalg.norm(got) * np.linalg.norm(wanted)))
        row["relative_rms"] = float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def print_rows(rows: Mapping[str, Mapping[str, Any]]) -> None:
    def mb(value: float) -> str:
        return f"{value / 1e6:,.0f}"

    body = [
        (
            name,
            mb(row["parameter_bytes"]),
            mb(row["loaded"]["rss"]),
            f"{mb(row['loaded']['anon'])} + {mb(row['loaded']['file'])}",
            mb(max(row["loading_peak"]["rss"], row["loading_peak"]["hwm"])),
            mb(row["answering_peak"]["hwm"]),
            f"{row['load_s']:.1f}",
            f"{row['answer_s']:.2f}",
            f"{row['cosine']:.5f}",
            f"{row['relative_rms']:.4f}",
        )
        for name, row in rows.items()
    ]
    columns = ["precision", "weights MB", "loaded MB", "anon + file", "peak of load", "peak of answer", "load s"]
    print_table("resident memory above the imports", [*columns, "answer s", "cosine", "relative rms"], body)


def measure_all(out: Path, folder: Path) -> dict[str, Any]:
    path = folder / "model.safetensors"
    parameters = int(run_child(["--write", "--folder", str(folder)])["parameters"])
    rows = {row: run_child(["--one", row, "--folder", str(folder)]) for row in ROWS}
    add_errors(rows, folder)
    result = {
        "schema": SCHEMA,
        "command": f"python -m bench.teacher_memory --out {out}",
        "teacher": "SmolVLA, full size, random weights",
        "parameters": parameters,
        "checkpoint_bytes": path.stat().st_size,
        "host": describe_host(),
        "rows": rows,
        **summary(rows),
        "goals": {"nf4_parameter_bytes_ratio": BYTES_GOAL, "nf4_teacher_memory_ratio": RESIDENT_GOAL},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(part, out)
    return result


def judge(result: Mapping[str, Any]) -> None:
    """Raises Refused where a goal is missed."""
    if result["parameters"] < LEAST_PARAMETERS:
        raise Refused(explain("teacher", f">= {LEAST_PARAMETERS:,} parameters", result["parameters"], "a larger one"))
    for name, most in result["goals"].items():
        if result[name] > most:
            raise Refused(explain(name, f"<= {most}", f"{result[name]:.3f}", "see the table"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results/teacher-memory.json"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="weights (1.8 GB) and answers")
    parser.add_argument("--one", choices=ROWS, help="measure one row in this process and print JSON")
    parser.add_argument("--write", action="store_true", help="write the weights and print JSON")
    given = parser.parse_args()
    try:
        if given.write:
            print(json.dumps({"parameters": write_weights(given.folder / "model.safetensors")}))
            return 0
        if given.one:
            print(json.dumps(measure_one(given.one, given.folder / "model.safetensors")))
            return 0
        result = measure_all(given.out, given.folder)
        print_rows(result["rows"])
        for name in result["goals"]:
            print(f"{name} {result[name]:.3f} (goal <= {result['goals'][name]})")
        judge(result)
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
