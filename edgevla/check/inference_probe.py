"""A process that does what the policy process does at a re-plan, and times it with the real engine.

    python -m edgevla.check.inference_probe --bundle out/student.bundle --out inference.npy ...

One sample is one inference in seconds: raw camera bytes and state in, absolute set-points written to a slot
of shared memory. Samples run back to back on changing frames; the last `--paced` of them wait `--pause-s`
before each, as in operation, where caches cool between two re-plans.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevla.bundle import Bundle, open_bundle
from edgevla.bundle.arrays import npy_bytes
from edgevla.control.child import adopt, emit, guarded
from edgevla.control.realtime import pin
from edgevla.control.shm import Slots
from edgevla.errors import Unsound, explain
from edgevla.policy.engine import PolicyEngine
from edgevla.policy.providers import ON_CPU, RunsOn, require_used, runs_on_said

_FRAMES = 32  # different camera frames, so that no cache holds the answer
_WARM_UP = 50  # inferences that are not counted


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 and the samples in --out, or one error event."""
    arguments = _arguments(argv)
    adopt(arguments.parent, signal.SIGTERM)
    missing = pin(None if arguments.core < 0 else arguments.core)
    bundle = open_bundle(arguments.bundle)
    runs_on = runs_on_said(json.loads(arguments.runs_on)) if arguments.runs_on else ON_CPU
    require_used(_where_nodes_run(bundle, arguments.threads, runs_on, arguments.delay), runs_on.providers)
    infer = one_inference(bundle, arguments.threads, arguments.delay, runs_on)
    gc.collect()
    gc.freeze()
    gc.disable()
    measure(infer, _WARM_UP)
    cpu_ns, wall_ns = time.process_time_ns(), time.monotonic_ns()
    samples = measure(infer, arguments.samples)
    cpu_share = (time.process_time_ns() - cpu_ns) / (time.monotonic_ns() - wall_ns)
    paced = measure(infer, arguments.paced, arguments.pause_s)
    Path(arguments.out).write_bytes(npy_bytes(np.concatenate([samples, paced])))
    emit("measured", missing=missing, cpu_share=cpu_share)
    return 0


def one_inference(bundle: Bundle, threads: int, delay: int, runs_on: RunsOn = ON_CPU) -> Callable[[int], None]:
    """A function of a counter that does one whole inference."""
    return _inferring(bundle, PolicyEngine(bundle, threads=threads, runs_on=runs_on), delay)


def _where_nodes_run(bundle: Bundle, threads: int, runs_on: RunsOn, delay: int) -> dict[str, dict[str, int]]:
    """Nodes by provider, by stage, of an engine of its own: what is timed is not profiled. CPU alone is not asked."""
    if runs_on.cpu_only:
        return {}
    engine = PolicyEngine(bundle, threads=threads, runs_on=runs_on, read_back=True)
    _inferring(bundle, engine, delay)(0)
    return engine.node_providers()


def _inferring(bundle: Bundle, engine: PolicyEngine, delay: int) -> Callable[[int], None]:
    manifest = bundle.manifest
    engine.set_instruction(_instruction(bundle))
    shape = (manifest.timing.horizon, len(manifest.channels))
    rng = np.random.default_rng(0)
    frames = [
        {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in manifest.cameras}
        for _ in range(_FRAMES)
    ]
    state = bundle.stats.state_offset
    prefix = np.zeros((delay, shape[1]), np.float32)
    low, high = np.array(manifest.start_low), np.array(manifest.start_high)
    anchor = ((low + high) / 2).astype(np.float32)
    slots = Slots.create(int(np.prod(shape)) * 4)

    def infer(count: int) -> None:
        chunk = engine.infer(frames[count % _FRAMES], state, prefix)
        slots.write(engine.to_setpoints(chunk, anchor, delay).tobytes())

    return infer


def measure(infer: Callable[[int], None], count: int, pause_s: float = 0.0) -> NDArray[np.float64]:
    """Seconds per inference, float64 (count,), with a pause before each."""
    samples = np.zeros(count)
    for index in range(count):
        if pause_s:
            time.sleep(pause_s)
        start_ns = time.monotonic_ns()
        infer(index)
        samples[index] = (time.monotonic_ns() - start_ns) * 1e-9
    return samples


def _instruction(bundle: Bundle) -> str:
    """One the bundle was made with: of its first golden vector."""
    for golden in bundle.golden.values():
        return golden.instruction
    todo = "export the bundle again, with golden vectors"
    raise Unsound(explain("inference cannot be measured", "a golden vector in the bundle", "none", todo))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m edgevla.check.inference_probe")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--out", required=True, help="where the samples go, .npy")
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--paced", type=int, default=0)
    parser.add_argument("--pause-s", type=float, default=0.1)
    parser.add_argument("--delay", type=int, required=True, help="d, ticks of prefix")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--core", type=int, default=-1, help="-1: not pinned")
    parser.add_argument("--runs-on", default="", help="JSON of edgevla.policy.providers.RunsOn; default: the CPU")
    parser.add_argument("--parent", type=int, default=os.getppid())
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(guarded(main))
