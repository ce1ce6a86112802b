"""How the cost grows with the window: random weights, graphs in int8, a full window, one inference of each in turns."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgevla.bundle.wiring import NEXT
from edgevla.policy.session import open_session
from edgevla.telemetry.interleaved import measure
from export.onnx.chain import blank_memory, onnx_stage, run_chain
from export.onnx.stages import StageSpec, export_stage
from export.quantize.artifact import quantize
from export.structures.config import INTERLEAVED, POLICY_HEAD
from export.structures.stages import stages_of
from export.study.cells import MAX_TOKENS, Kind, config_of, policy_of

WINDOWS = (1, 2, 4, 8, 16)
ROUNDS, WARM, WORDS, WIDTH = 100, 10, 40, 256


def growth() -> list[dict[str, Any]]:
    """Rows of structure, window, p50_ms, and bytes that one inference hands to the next."""
    kinds = [Kind(f"{s} {w}", s, h, w) for s, h in ((INTERLEAVED, "mlp"), (POLICY_HEAD, "lstm")) for w in WINDOWS]
    calls, kept = {}, {}
    for kind in kinds:
        specs = stages_of(policy_of(config_of(kind, WIDTH), WORDS), MAX_TOKENS)
        sessions = {spec.name: open_session(_int8(spec), spec.name) for spec in specs}
        frame = {name: value.numpy() for spec in specs for name, value in spec.inputs.items()}
        raw = {name: frame[name] for name in ("image", "tokens", "token_mask", "state", "prefix", "prefix_mask")}
        run, memory = onnx_stage(sessions), blank_memory(specs)
        kept[kind.name] = sum(value.nbytes for value in memory.values())
        for _ in range(kind.window):
            answered = run_chain(specs, {**raw, **memory}, run)
            memory = {name: answered[name + NEXT] for name in memory}
        calls[kind.name] = lambda specs=specs, raw={**raw, **memory}, run=run: run_chain(specs, raw, run)
    found = measure(calls, ROUNDS, WARM)
    return [
        {"structure": kind.structure, "window": kind.window, "memory_bytes": kept[kind.name],
         "p50_ms": float(np.quantile(found.ns[kind.name], 0.5)) / 1e6}
        for kind in kinds
    ]  # fmt: skip


def _int8(spec: StageSpec) -> bytes:
    graph = export_stage(spec)
    return graph if spec.name == "text" else quantize(graph, "dynamic-s8")
