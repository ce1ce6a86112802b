"""SmolVLA 450M with random weights: one int8 pass against LeRobot's ten steps in eager torch.

    python -m bench.smolvla --work out/smolvla --lerobot-python PYTHON --out bench/results/smolvla.json

Equal pictures, cameras, chunk and layers; only the flow steps go from ten to one. Rows with fewer layers or vision
tokens are named so. Every contender is a process of its own on one thread; a round asks each once, in an order drawn
anew. Building (about 12 GB of disk in --work) is done once and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.smolvla.build import VARIANTS, folder_of
from edgevla.errors import BadInput, EdgevlaError, Unsound, explain
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.interleaved import Interleaved, measure

WHOLE = "one-pass"
FP32, BF16 = "lerobot fp32", "lerobot bf16 vlm"
GOALS = {  # (slow, fast): (times as fast at least, resident memory at most)
    (FP32, WHOLE): (5.0, 0.35),
    (BF16, WHOLE): (3.5, 0.40),
    (FP32, "one-pass, 8 layers, 256 px"): (10.0, None),
}


class Contender:
    """A process that makes one inference per line and says how it went."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self.command = name, list(command)
        self.last: dict[str, float] = {}

    def __enter__(self) -> Contender:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self.command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=one_thread()
        )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __call__(self, line: str = "") -> None:
        """One inference; `self.last` says its ns and the memory. Raises Unsound: the process ended."""
        if self._process.stdin is None or self._process.poll() is not None:
            raise self._ended()
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._answer()

    def probe(self) -> dict[str, int]:
        """The last inference by the contender's own clock."""
        return {"inside": int(self.last["ns"])}

    def _answer(self) -> None:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise self._ended()
        self.last = json.loads(line)

    def _ended(self) -> Unsound:
        todo = f"run it by hand to see why: {' '.join(self.command)}"
        return Unsound(explain(f"contender {self.name}", "an answer", f"exit {self._process.wait()}", todo))


def one_thread() -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, "1"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def prepare(work: Path, lerobot_python: Path, variants: Sequence[str], cameras: int) -> None:
    """Everything that is measured, made once. Raises BadInput: a step failed, with the end of what it said."""
    if not (work / "policy").is_dir():
        _run([str(lerobot_python), "-m", "bench.smolvla.library", "make", str(work), "--cameras", str(cameras)])
    for variant in variants:
        if not (folder_of(work, variant) / "parity.json").is_file():
            _run([sys.executable, "-m", "bench.smolvla.build", str(work), variant])


def _run(command: Sequence[str]) -> None:
    print(f"making: {' '.join(command[1:])}", flush=True)
    done = subprocess.run(command, env=one_thread(), capture_output=True, text=True)
    if done.returncode:
        got = f"exit {done.returncode}: {done.stderr.strip()[-400:]}"
        raise BadInput(
            explain(" ".join(command[1:4]), "to work", got, "see the error, then run the same command again")
        )


def contenders(work: Path, lerobot_python: Path, variants: Sequence[str]) -> list[Contender]:
    inputs = str(folder_of(work, WHOLE) / "inputs.npz")
    library = [str(lerobot_python), "-m", "bench.smolvla.library", "serve", str(work), "--inputs", inputs]
    ours = [
        Contender(name, [sys.executable, "-m", "bench.smolvla.serve", str(folder), str(folder / "inputs.npz")])
        for name in variants
        for folder in [folder_of(work, name)]
    ]
    return [Contender(FP32, library), Contender(BF16, [*library, "--bf16"]), *ours]


def run_rounds(entries: Sequence[Contender], rounds: int, warmup: int) -> tuple[Interleaved, dict[str, Any]]:
    """Latencies by the contenders' own clocks, and the memory of each after its last inference (MB)."""
    with ExitStack() as stack:
        for entry in entries:
            stack.enter_context(entry)
        calls = {entry.name: entry for entry in entries}
        probes = {entry.name: entry.probe for entry in entries}
        result = measure(calls, rounds, warmup, probes=probes)
        memory = {e.name: {key: e.last[key] for key in ("rss_mb", "peak_mb")} for e in entries}
    inside = {name: result.ns[f"{name}/inside"] for name in calls}
    return Interleaved(inside, result.rounds, result.wall_s, result.stolen_s, result.seed, warmup), memory


def summary(work: Path, result: Interleaved, memory: dict[str, Any], variants: Sequence[str]) -> dict[str, Any]:
    """Everything as JSON: raw latencies, ratios with their 95 % intervals, memory, parity, host."""
    pairs = [(slow, fast) for fast in variants for slow in (FP32, BF16)]
    ratios = []
    for slow, fast in pairs:
        speed_goal, memory_goal = GOALS.get((slow, fast), (None, None))
        share = memory[fast]["rss_mb"] / memory[slow]["rss_mb"]
        row = result.ratio(slow, fast).as_dict()
        ratios.append({**row, "speed_goal": speed_goal, "rss_share": share, "rss_goal": memory_goal})
    return {
        "schema": "edgevla.bench.smolvla/1",
        "what": "SmolVLA 450M, random weights, one thread each; contenders in turn, one inference a round",
        "rounds": result.rounds,
        "warmup": result.warmup,
        "stolen_s": result.stolen_s,
        "latency": result.summary(),
        "latencies_ns": result.as_figures(),
        "memory_mb": memory,
        "ratios": ratios,
        "parity": {name: json.loads((folder_of(work, name) / "parity.json").read_text()) for name in variants},
        "host": describe_host(),
    }


def print_tables(report: dict[str, Any]) -> None:
    print(f"\n{'contender':<30}{'p50 ms':>9}{'p99 ms':>9}{'RSS MB':>9}{'peak MB':>9}")
    for name, row in report["latency"].items():
        memory = report["memory_mb"][name]
        print(f"{name:<30}{row['p50_ms']:>9.0f}{row['p99_ms']:>9.0f}{memory['rss_mb']:>9.0f}{memory['peak_mb']:>9.0f}")
    print(f"\n{'ratio':<50}{'times':>7}{'95 %':>15}{'goal':>7}{'RSS':>7}{'goal':>7}")
    for row in report["ratios"]:
        name, spread = f"{row['slow']} / {row['fast']}", f"{row['low']:.2f} - {row['high']:.2f}"
        goals = [f"{goal:.2f}" if goal else "" for goal in (row["speed_goal"], row["rss_goal"])]
        print(f"{name:<50}{row['median']:>7.2f}{spread:>15}{goals[0]:>7}{row['rss_share']:>7.2f}{goals[1]:>7}")
    print(f"\n{'parity (random frames)':<50}{'frames':>7}{'cosine min':>12}{'max':>10}{'rel. rms':>10}")
    for name, rows in report["parity"].items():
        for row in rows:
            label = f"{name}: {row['stage']} -> {row['format']}"
            figures = f"{row['cosine_min']:>12.6f}{row['max_abs']:>10.2e}{row['relative_rms']:>10.2e}"
            print(f"{label:<50}{row['frames']:>7}{figures}")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 measured, whatever the goals say; 3 not measured; 4 bad input."""
    arguments = _arguments(argv)
    work, variants = arguments.work.resolve(), [WHOLE] if arguments.only_whole else list(VARIANTS)
    try:
        prepare(work, arguments.lerobot_python, variants, arguments.cameras)
        entries = contenders(work, arguments.lerobot_python, variants)
        result, memory = run_rounds(entries, arguments.rounds, arguments.warmup)
        report = summary(work, result, memory, variants)
    except EdgevlaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    part = arguments.out.with_name(f".{arguments.out.name}.part")
    part.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(part, arguments.out)
    print_tables(report)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.smolvla", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="artifacts, made once")
    parser.add_argument("--lerobot-python", type=Path, required=True, help="interpreter of the environment of LeRobot")
    parser.add_argument("--out", type=Path, required=True, help="raw JSON")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--cameras", type=int, default=1, help="when the policy is made")
    parser.add_argument("--only-whole", action="store_true", help="without the rows of fewer layers or tokens")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
