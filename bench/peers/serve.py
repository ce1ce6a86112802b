"""One engine with one model in a process of its own: a line of stdin is an inference, or `answer FILE`.

    python -m bench.peers.serve FOLDER --peer "onnxruntime fp32" --threads 1

Answers are lines of JSON: {"ready", "rss_mb", "precision"}, {"ns", "rss_mb"}; a line `failed` says why it cannot run.
Each timed inference comes after `--settle` untimed ones: caches as in a loop of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.case import load, load_frames
from bench.peers.engines import PEERS
from bench.smolvla.serve import resident_mb


def main() -> int:
    arguments = _arguments()
    answer = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # engines print
    warnings.simplefilter("ignore")
    try:
        case, frames = load(arguments.folder), load_frames(arguments.folder)
        run = PEERS[arguments.peer].open(case, arguments.folder, arguments.threads)
        run(frames[0])
    except Exception as error:  # any engine's own: it is the answer
        print(json.dumps({"failed": f"{type(error).__name__}: {str(error).strip()[:400]}"}), file=answer)
        return 0
    print(json.dumps({"ready": True, "precision": getattr(run, "precision", ""), **resident_mb()}), file=answer)
    gc.collect()
    gc.freeze()
    gc.disable()
    _serve(run, frames, case.actions, arguments.settle, answer)
    return 0


def _serve(run: Any, frames: list[Any], actions: int, settle: int, answer: Any) -> None:
    for number, line in enumerate(sys.stdin):
        if line.startswith("answer "):
            chunks = np.concatenate([np.array(run(feeds)[..., :actions], np.float32) for feeds in frames])
            np.save(line[7:].strip(), chunks)
            print(json.dumps({"saved": True, **resident_mb()}), file=answer)
            continue
        feeds = frames[number % len(frames)]
        for _ in range(settle):
            run(feeds)
        begun_ns = time.perf_counter_ns()
        run(feeds)
        print(json.dumps({"ns": time.perf_counter_ns() - begun_ns, **resident_mb()}), file=answer)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.serve")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--settle", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
