"""The graphs of a policy: FP32 as torch says it, and the artifact that ships, as asked for or as the search decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgevla.bundle.manifest import ActionChannel
from edgevla.bundle.wiring import WORDS
from export.onnx.chain import run_chain, torch_stage
from export.onnx.stages import StageSpec, export_stage
from export.onnx.summary import line, summary
from export.pack import Graphs, Policy
from export.quantize.artifact import quantize
from export.quantize.graph import products
from export.quantize.scales import scales_bytes, weight_scales
from export.quantize.smoothquant import smooth
from export.request import ArtifactAsk

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
Table = tuple[str, Sequence[str], Sequence[tuple[object, ...]]]  # title, columns, rows
SCALED = ("dynamic-s8", "static-qdq", "trt")  # kinds of one set of weight scales
STATIC = ("static-qdq", "trt")  # kinds with activation scales


@dataclass(frozen=True)
class Made:
    """Graphs, and what is told about how they were chosen."""

    graphs: Graphs
    notes: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)  # file name without ending -> JSON
    tables: tuple[Table, ...] = ()
    picture: str = ""  # SVG of the error/latency front


def float_graphs(policy: Policy) -> dict[str, bytes]:
    """Stage -> FP32 graph."""
    return {spec.name: export_stage(spec) for spec in policy.stages}


def rare_stages(specs: Sequence[StageSpec]) -> frozenset[str]:
    """Stages that run once per instruction, as they depend on words alone: int8 would save nothing there."""
    known, found = set(WORDS), set()
    for spec in specs:
        if set(spec.inputs) <= known:
            known |= set(spec.outputs)
            found.add(spec.name)
    return frozenset(found)


def make_graphs(policy: Policy, ask: ArtifactAsk, calibration: Sequence[Feeds]) -> Made:
    """The artifact that was asked for.

    Args:
        policy: with its stages.
        ask: kind, and whether outlier channels are folded away first.
        calibration: frames for static activations and for the folding, of episodes that nothing is judged on.

    Raises:
        Refused: the graphs would not run as the kind claims.
    """
    floats, rare = float_graphs(policy), rare_stages(policy.stages)
    feeds = stage_feeds(policy.stages, calibration) if ask.smooth or ask.kind in STATIC else {}
    model, notes, scales = {}, [], {}
    for name, graph in floats.items():
        if name in rare or ask.kind == "fp32":
            model[name] = graph
            continue
        if ask.smooth and ask.kind not in ("fp16", "fp32"):
            smoothed = smooth(graph, feeds[name])
            folded = sum(group.alpha is not None for group in smoothed.groups)
            notes.append(f"SmoothQuant folded {folded} of {len(smoothed.groups)} groups of {name}")
            graph = smoothed.graph
        if ask.kind in SCALED:
            scales[name] = weight_scales(graph)
        static = feeds[name] if ask.kind in STATIC else None
        model[name] = quantize(graph, ask.kind, calibration=static, scales=scales.get(name))
        if ask.kind == "dynamic-s8":
            notes.append(_int8_note(name, model[name]))
    return Made(Graphs(ask.kind, model, floats, scales_bytes(scales) if scales else None), tuple(notes))


def _int8_note(name: str, graph: bytes) -> str:
    """What became of the products: an artifact called int8 may hold none, as convolutions and small ones stay float."""
    model = onnx.load_model_from_string(graph)
    integer = sum(node.op_type == "MatMulInteger" for node in model.graph.node)
    return f"{integer} of {integer + len(products(model))} products with a weight in {name} are int8"


def stage_feeds(specs: Sequence[StageSpec], frames: Sequence[Feeds]) -> dict[str, list[dict[str, Array]]]:
    """What each stage is fed on these frames; of a flow at each of its times."""
    found: dict[str, list[dict[str, Array]]] = {spec.name: [] for spec in specs}
    for frame in frames:
        values = run_chain(specs, frame, torch_stage)
        for spec in specs:
            found[spec.name] += _of_flow(spec, values) if spec.times else [{n: values[n] for n in spec.inputs}]
    return found


def _of_flow(spec: StageSpec, values: Feeds) -> list[dict[str, Array]]:
    feeds, x = [], values["noise"]
    for t in spec.times:
        fed = {**values, "noisy": x, "t": np.array([t], np.float32)}
        feeds.append({name: fed[name] for name in spec.inputs})
        (x,) = torch_stage(spec, fed)
    return feeds


def search_graphs(
    policy: Policy,
    ask: ArtifactAsk,
    judged: Sequence[Feeds],
    calibration: Sequence[Feeds],
    channels: Sequence[ActionChannel],
    work: Path,
    seed: int,
    progress: bool,
) -> Made:
    """What the search decides: see `export.search`."""
    from export.search.error import parse_budget
    from export.search.plot import front_svg
    from export.search.report import COLUMNS, LAYER_COLUMNS, evidence, layer_table, table
    from export.search.search import search

    floats = float_graphs(policy)
    choice = search(
        floats, judged, calibration, channels, parse_budget(ask.error_budget, channels),
        fixed=rare_stages(policy.stages), times=policy.stages[-1].times, work=work,
        search_budget_s=ask.search_budget_s, seed=seed, progress=progress,
    )  # fmt: skip
    notes = (*choice.notes, choice.others, choice.sentence)
    found = evidence(choice)
    tables: tuple[Table, ...] = (
        ("layers, the dearest first", LAYER_COLUMNS, layer_table(choice)),
        ("candidates, the fastest first", COLUMNS, table(choice)),
    )
    graphs = Graphs(choice.artifact, dict(choice.graphs), floats)
    return Made(graphs, notes, {"search": found}, tables, front_svg(found))


def graph_table(graphs: Graphs) -> tuple[Table, dict[str, Any]]:
    """What the graphs are made of: as a table, and as evidence."""
    found = {
        **{f"float/{name}": summary(graph) for name, graph in graphs.floats.items()},
        **{f"model/{name}": summary(graph) for name, graph in graphs.model.items()},
    }
    columns = ("graph", "operators", "weights", "multiply-adds", "of these int8")
    return ("graphs", columns, [line(name, one) for name, one in found.items()]), found
