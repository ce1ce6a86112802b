"""Each engine as its authors would set it up for one robot: one request at a time, batch 1, a fixed number of threads.

`PEERS` holds for each its name, how it is configured (printed, and in bench/README.md) and what opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.case import Case, Feeds

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[Feeds], Array]  # frame in, chunk (1, H, A or more) out
OURS, REFERENCE = "edgevla int8", "onnxruntime fp32"
NNCF = "nncf.xml"
LARGEST_MERGED = 2_000_000_000  # bytes of a protobuf message


@dataclass(frozen=True)
class Peer:
    """`memory`: resident bytes per parameter, about, to fit several beside each other."""

    name: str
    configured: str
    open: Callable[[Case, Path, int], Run]
    memory: float


def open_eager(case: Case, folder: Path, threads: int) -> Run:
    """torch as it is imported: no compiler, no graph."""
    import torch

    from bench.peers.modules import whole

    torch.set_num_threads(threads)
    module = whole(case, folder)

    def run(feeds: Feeds) -> Array:
        with torch.inference_mode():
            return np.asarray(module(*(torch.from_numpy(feeds[name]) for name in module.names)).numpy())

    return run


def open_compiled(case: Case, folder: Path, threads: int) -> Run:
    """torch.compile with inductor, weights frozen into the graph. Raises what inductor raises: no C++ compiler, ..."""
    import torch
    from torch._inductor import config

    from bench.peers.modules import whole

    torch.set_num_threads(threads)
    config.freezing = True
    module = whole(case, folder)
    names = module.names
    compiled = torch.compile(module, fullgraph=True, dynamic=False)

    def run(feeds: Feeds) -> Array:
        with torch.no_grad():
            return np.asarray(compiled(*(torch.from_numpy(feeds[name]) for name in names)).numpy())

    return run


def open_onnxruntime(form: str) -> Callable[[Case, Path, int], Run]:
    """The CPU provider with its own defaults but for the threads; the stages behind each other."""

    def opened(case: Case, folder: Path, threads: int) -> Run:
        from edgevla.policy.session import open_session

        sessions = [
            (open_session(case.graph(folder, stage, form).read_bytes(), stage, threads), case.outputs[stage])
            for stage in case.stages
        ]
        takes = [tuple(value.name for value in session.get_inputs()) for session, _ in sessions]  # type: ignore[attr-defined]

        def run(feeds: Feeds) -> Array:
            known = dict(feeds)
            for (session, gives), names in zip(sessions, takes, strict=True):
                known.update(zip(gives, session.run(list(gives), {name: known[name] for name in names}), strict=True))
            return known["chunk"]

        return run

    return opened


def open_openvino(case: Case, folder: Path, threads: int) -> Run:
    """All stages as one model, its own choice of precision."""
    from export.search.engines import merged

    return _openvino(lambda core: core.read_model(merged(case.graphs(folder, "fp32")), b""), threads)


def open_nncf(case: Case, folder: Path, threads: int) -> Run:
    """What NNCF made of it (`bench.peers.make`)."""
    if not (folder / NNCF).is_file():
        from edgevla.errors import BadInput, explain

        got = case.failed.get("nncf", "no such file")
        todo = "pip install nncf, where that is what is missing"
        raise BadInput(explain(f"{NNCF} of {case.name}", "a model that NNCF quantized", got, todo))
    return _openvino(lambda core: core.read_model(folder / NNCF), threads)


def _openvino(read: Callable[[Any], Any], threads: int) -> Run:
    import openvino

    core = openvino.Core()
    asked = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(read(core), "CPU", asked)
    takes = tuple(port.get_any_name() for port in compiled.inputs)
    chunk = next(i for i, port in enumerate(compiled.outputs) if "chunk" in port.get_names())
    request = compiled.create_infer_request()

    def run(feeds: Feeds) -> Array:
        answer = request.infer({name: feeds[name] for name in takes}, share_inputs=True, share_outputs=True)
        return np.asarray(answer[chunk])

    run.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())  # type: ignore[attr-defined]
    return run


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("torch eager", "eval(), inference_mode(), set_num_threads", open_eager, 5),
        Peer("torch.compile", "inductor, fullgraph, static shapes, freezing, no_grad()", open_compiled, 10),
        Peer(
            REFERENCE, "CPU provider, all optimisations, intra-op threads, arena on", open_onnxruntime("fp32"), 8
        ),
        Peer(
            "onnxruntime fp16", "the same graphs by its own float16 converter, float32 interface",
            open_onnxruntime("fp16"), 9,
        ),
        Peer("openvino auto", "one model, LATENCY hint, its own inference precision", open_openvino, 8),
        Peer("openvino nncf int8", "nncf.quantize with its defaults, then as the row above", open_nncf, 3),
        Peer(OURS, "the int8 that a bundle ships, stages as the robot runs them", open_onnxruntime("int8"), 2.5),
    )
}  # fmt: skip
