"""Latency: what int8 saves in each layer, and every candidate beside the baselines in one interleaved run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevla.errors import BadInput, Unsound, explain
from edgevla.policy.engine import open_session
from edgevla.telemetry.interleaved import Interleaved, measure
from export.onnx.stages import IR_VERSION, OPSET
from export.search.engines import Chain, Feeds, openvino_chain
from export.search.front import LADDER_KIND
from export.search.layers import Key, Layer
from export.search.sensitivity import Quantizer, in_one_line

ROUNDS = 300
WARMUP = 10
SETTLE = 1  # untimed calls before each timed one: every candidate with warm caches, as in its own loop
LAYER_ROUNDS = 60
OPENVINO, NNCF = "openvino", "openvino-nncf-int8"


@dataclass(frozen=True)
class Baseline:
    """Another engine on the same graphs. It is never shipped."""

    name: str
    chain: Chain
    note: str


def baselines(
    graphs: Mapping[str, bytes], calibration: Sequence[Feeds], times: tuple[float, ...] = ()
) -> tuple[list[Baseline], list[str]]:
    """OpenVINO with its own choice of precision, and after NNCF; a sentence for each that is not installed."""
    found, missing = [], list[str]()
    for name, frames in ((OPENVINO, None), (NNCF, calibration)):
        try:
            chain, precision = openvino_chain(graphs, times, frames)
        except BadInput as error:
            missing.append(f"{name} is not measured: {in_one_line(error)}")
        else:
            found.append(Baseline(name, chain, precision))
    return found, missing


def time_chains(
    chains: Mapping[str, Chain],
    frames: Sequence[Feeds],
    rounds: int = ROUNDS,
    limit_s: float | None = None,
    seed: int = 0,
) -> Interleaved:
    """All chains in one run: each once a round, in random order, every call on the next frame."""
    calls = {name: _on_frames(chain, frames) for name, chain in chains.items()}
    return measure(calls, rounds, warmup=WARMUP, settle=SETTLE, seed=seed, limit_s=limit_s)


def _on_frames(chain: Chain, frames: Iterable[Feeds]) -> Callable[[], object]:
    endless = itertools.cycle(frames)
    return lambda: chain(next(endless))


def saved_us(
    layers: Sequence[Layer], quantizer: Quantizer, rounds: int = LAYER_ROUNDS, kind: str = LADDER_KIND
) -> dict[Key, float]:
    """Microseconds that int8 saves in each layer per chunk, timed alone; layers of one shape are timed once.

    It orders the ladder. What a candidate takes as a whole is measured as a whole.
    """
    calls: dict[str, Callable[[], object]] = {}
    shapes = list(dict.fromkeys(layer.shape for layer in layers))
    for shape in shapes:
        graph = product_graph(*shape)
        feeds = {"x": np.random.default_rng(0).standard_normal((1, *shape[:2]), np.float32)}
        for form, raw in (("float", graph), ("int8", quantizer(graph, kind))):
            session = open_session(raw, f"{form} {shape}")
            calls[f"{form} {shape}"] = lambda session=session, feeds=feeds: session.run(None, feeds)  # type: ignore[misc]
    if not calls:
        return {}
    ns = measure(calls, rounds, warmup=5, settle=2).ns
    gain = {shape: float(np.median(ns[f"float {shape}"] - ns[f"int8 {shape}"])) / 1e3 for shape in shapes}
    return {layer.key: gain[layer.shape] * layer.repeats for layer in layers}


def product_graph(rows: int, depth: int, columns: int) -> bytes:
    """x (1, rows, depth) @ W + b as a graph of its own."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array((rng.standard_normal((depth, columns)) / depth**0.5).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(columns, np.float32), "b")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, rows, width])
        for name, width in (("x", depth), ("y", columns))
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node("Add", ["p", "b"], ["y"], "sum"),
    ]
    graph = helper.make_graph(nodes, "layer", [x], [y], [weight, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def most_at_once(float_bytes: int, available: int) -> int:
    """Ladder candidates that fit in memory beside the baselines, 2 to 10: a session holds about twice its graph."""
    return int(min(10, max(2, available // (4 * max(float_bytes, 1)) - 5)))


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be taken without swapping. Raises Unsound: the kernel does not say."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        match = None
    if match is None:
        raise Unsound(explain("memory available", f"MemAvailable in {meminfo}", "none", "run on Linux"))
    return int(match[1]) * 1024
