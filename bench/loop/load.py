"""What keeps the other core busy in a window, and says afterwards how much it did.

    python -m bench.loop.load --kind memory --core 0 < PIPE

memory: copies between two arrays larger than any cache. inference: ONNX Runtime, one thread, back to back (a bundle's
policy, else a small graph of products made here). disk: 1 MiB written and fsynced, over and over. It works until
standard input closes; its last line is {"event": "worked", "amount", "unit", "seconds"}.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.control.child import adopt, emit, guarded
from edgevla.control.realtime import pin
from edgevla.errors import Unsound, explain

KINDS = ("memory", "inference", "disk")
_COPY_BYTES = 256 << 20  # larger than the last cache of any machine meant here
_DISK_BYTES, _DISK_FILE_BYTES = 1 << 20, 64 << 20
_WIDTH, _LAYERS = 512, 6  # of the graph made here: 6 MB of weights
_READY_S = 120.0
_BUDGET_S = 0.025  # s: L of the host profile

Work = Callable[[], float]  # one piece of work; how much it was


def memory() -> Work:
    source = np.ones(_COPY_BYTES // 8)
    target = np.zeros_like(source)

    def copy() -> float:
        np.copyto(target, source)
        return 2 * _COPY_BYTES / 1e9  # read and written

    return copy


def disk(folder: Path) -> Work:
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  open as long as the process
    block, offsets = os.urandom(_DISK_BYTES), itertools.cycle(range(0, _DISK_FILE_BYTES, _DISK_BYTES))

    def write() -> float:
        os.pwrite(file.fileno(), block, next(offsets))
        os.fsync(file.fileno())
        return _DISK_BYTES / 1e6

    return write


def inference(bundle: str) -> Work:
    """One whole inference of the bundle's policy; without a bundle one pass of a graph of products."""
    if bundle:
        from edgevla.bundle import open_bundle
        from edgevla.check.inference_probe import one_inference
        from edgevla.control.timing import delay_ticks

        opened = open_bundle(Path(bundle))
        infer, count = (
            one_inference(opened, 1, delay_ticks(_BUDGET_S, opened.manifest.timing.period_s)),
            itertools.count(),
        )

        def policy() -> float:
            infer(next(count))
            return 1.0

        return policy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(products(), options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ones((64, _WIDTH), np.float32)}

    def graph() -> float:
        session.run(None, feed)
        return 1.0

    return graph


def products() -> bytes:
    """An ONNX graph: x float32 (64, 512) through six products with ReLU between."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights, nodes, name = [], [], "x"
    for layer in range(_LAYERS):
        matrix = (rng.standard_normal((_WIDTH, _WIDTH)) / np.sqrt(_WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes += [
            helper.make_node("MatMul", [name, f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Relu", [f"m{layer}"], [f"y{layer}"]),
        ]
        name = f"y{layer}"
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [64, _WIDTH]) for end in ("x", name)]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 20)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return model


UNITS = {"memory": "GB copied", "inference": "inferences", "disk": "MB fsynced"}


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 and what was done, or one error event."""
    arguments = _arguments(argv)
    adopt(os.getppid(), signal.SIGTERM)
    not_pinned = pin(arguments.core)
    works: dict[str, Callable[[], Work]] = {
        "memory": memory,
        "inference": lambda: inference(arguments.bundle),
        "disk": lambda: disk(Path(arguments.folder or tempfile.gettempdir())),
    }
    work = works[arguments.kind]()
    work()
    emit("ready", not_pinned=not_pinned)
    amount, begun_s = 0.0, time.monotonic()
    while not select.select([0], [], [], 0)[0]:
        amount += work()
    emit("worked", amount=amount, unit=UNITS[arguments.kind], seconds=time.monotonic() - begun_s)
    return 0


@dataclass
class Loads:
    """The loads of one window, and after it what each of them did."""

    worked: dict[str, dict[str, Any]] = field(default_factory=dict)


@contextlib.contextmanager
def loaded(kinds: Sequence[str], core: int, bundle: str = "", folder: str = "") -> Iterator[Loads]:
    """`kinds` at work on `core` inside this context. Raises Unsound when one does not start."""
    loads = Loads()
    with contextlib.ExitStack() as stack:
        children = {kind: stack.enter_context(_started(kind, core, bundle, folder)) for kind in kinds}
        for kind, child in children.items():
            _event(child, kind, "ready")
        yield loads
        for child in children.values():
            if child.stdin is not None:
                child.stdin.close()
        for kind, child in children.items():
            loads.worked[kind] = _event(child, kind, "worked")


@contextlib.contextmanager
def _started(kind: str, core: int, bundle: str, folder: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "bench.loop.load", "--kind", kind, "--core", str(core)]
    command += ["--bundle", bundle, "--folder", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def _event(child: subprocess.Popen[bytes], kind: str, name: str) -> dict[str, Any]:
    """The next event of that name. Raises Unsound on another or on none in time."""
    got: Any = "silence"
    if child.stdout is not None and select.select([child.stdout], [], [], _READY_S)[0]:
        line = child.stdout.readline()
        with contextlib.suppress(ValueError):
            got = json.loads(line)
            if isinstance(got, dict) and got.get("event") == name:
                return {key: value for key, value in got.items() if key != "event"}
    todo = f"try: python -m bench.loop.load --kind {kind} --core 0"
    raise Unsound(explain(f"the load {kind!r} does not work", f"the event {name!r}", got, todo))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.loop.load")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--bundle", default="", help="of --kind inference")
    parser.add_argument("--folder", default="", help="of --kind disk; default: the temporary one")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(guarded(main))
