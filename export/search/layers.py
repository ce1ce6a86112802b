"""The layers that may become int8: what they are called, what they weigh, what they compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from export.quantize.graph import layer_names, load, worth_it

Key = tuple[str, str]  # stage, node


@dataclass(frozen=True)
class Layer:
    """One product with a constant weight: (rows, depth) @ (depth, columns), `repeats` times per chunk."""

    stage: str
    node: str
    name: str  # of the module it came from
    operator: str
    rows: int
    depth: int
    columns: int
    repeats: int = 1

    @property
    def key(self) -> Key:
        return self.stage, self.node

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.rows, self.depth, self.columns

    @property
    def weights(self) -> int:
        return self.depth * self.columns

    @property
    def multiply_adds(self) -> int:
        """Per chunk."""
        return self.rows * self.depth * self.columns * self.repeats


Group = tuple[Layer, ...]  # layers that are judged together


def layers_of(graphs: Mapping[str, bytes], repeats: int = 1) -> list[Layer]:
    """Every layer worth quantizing, in the order they run. `repeats`: times the last stage runs per chunk."""
    last = list(graphs)[-1]
    return [
        layer for stage, graph in graphs.items() for layer in _layers(stage, graph, repeats if stage == last else 1)
    ]


def _layers(stage: str, graph: bytes, repeats: int) -> list[Layer]:
    model, names = load(graph), layer_names(graph)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    elements = {v.name: math.prod(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    outputs = {node.name: node.output[0] for node in model.graph.node}
    return [
        Layer(stage, p.node, names[p.node], p.op, elements[outputs[p.node]] // p.channels, p.depth, p.channels, repeats)
        for p in worth_it(model, frozenset())
    ]


def grouped(layers: Sequence[Layer], most: int) -> list[Group]:
    """At most `most` groups of neighbours in one stage each, of about equal length; one layer each where it fits."""
    stages = list(dict.fromkeys(layer.stage for layer in layers))
    if len(layers) <= most or most < len(stages):
        return [(layer,) for layer in layers] if len(layers) <= most else _per_stage(layers, stages)
    length = 2
    while len(groups := _cut(layers, stages, length)) > most:
        length += 1
    return groups


def _per_stage(layers: Sequence[Layer], stages: Sequence[str]) -> list[Group]:
    return [tuple(layer for layer in layers if layer.stage == stage) for stage in stages]


def _cut(layers: Sequence[Layer], stages: Sequence[str], length: int) -> list[Group]:
    return [part[i : i + length] for part in _per_stage(layers, stages) for i in range(0, len(part), length)]
