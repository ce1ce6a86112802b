"""The roofline of a bundle: its stages of one chunk, profiled, against peaks measured before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.roofline.classes import Operator, Peaks, Row, rows, total
from bench.roofline.peaks import measure_peaks
from bench.roofline.profile import Pass, profile, recorder_cost_us
from edgevla.bundle.manifest import Stage
from edgevla.bundle.reader import Bundle
from edgevla.bundle.wiring import once_per_instruction
from edgevla.telemetry.host import describe_host
from export.parity.recorded import golden_feeds

ROUNDS = 300


@dataclass(frozen=True)
class Graph:
    """One stage of a chunk: one pass of it, and how often a chunk runs it."""

    name: str
    times: int
    one_pass: Pass

    @property
    def operators(self) -> list[Operator]:
        """Of one chunk."""
        return [_repeated(operator, self.times) for operator in self.one_pass.operators]

    @property
    def wall_ms(self) -> float:
        """Of one chunk, without a profiler."""
        return self.one_pass.wall_ms * self.times


@dataclass(frozen=True)
class Roofline:
    """One thread, one run."""

    rows: tuple[Row, ...]
    peaks: Peaks
    wall_ms: float
    float_model: bool
    rounds: int
    recorder_us: float  # what the profiler adds to each operator; taken off
    graphs: tuple[Graph, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": [row.as_dict() for row in self.rows],
            "total": dict(total(self.rows)),
            "peaks": asdict(self.peaks),
            "wall_ms": self.wall_ms,
            "float_model": self.float_model,
            "rounds": self.rounds,
            "recorder_us": self.recorder_us,
            "threads": 1,
            "host": describe_host(),
        }


def roofline(bundle: Bundle, float_model: bool = False, rounds: int = ROUNDS) -> Roofline:
    """Profiles what the bundle runs for each chunk; peaks are the better of those before and after.

    Stages of words alone run once per instruction and are left out. A step of a flow counts once per time.

    Raises:
        BadInput: FP32 graphs are asked for, and there are none.
    """
    values = golden_feeds(bundle, float_model)
    before, cost_us = measure_peaks(), recorder_cost_us()
    graphs = []
    for stage in each_chunk(bundle.manifest.float_stages if float_model else bundle.manifest.stages):
        feeds = {tensor.name: values[tensor.name] for tensor in stage.inputs}
        one_pass = profile(bundle.model(stage.name, float_model), feeds, rounds, cost_us)
        graphs.append(Graph(stage.name, max(1, len(stage.times)), one_pass))
    peaks = _better(before, measure_peaks())
    found = [operator for graph in graphs for operator in graph.operators]
    wall_ms = sum(graph.wall_ms for graph in graphs)
    return Roofline(tuple(rows(found, wall_ms, peaks)), peaks, wall_ms, float_model, rounds, cost_us, tuple(graphs))


def each_chunk(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages that run for every chunk."""
    once = once_per_instruction(stages)
    return tuple(stage for stage in stages if stage not in once)


def _repeated(one: Operator, times: int) -> Operator:
    """An operator that runs so often in a chunk."""
    return replace(one, us=one.us * times, multiply_adds=one.multiply_adds * times, bytes=one.bytes * times)


def _better(a: Peaks, b: Peaks) -> Peaks:
    return Peaks(*(max(pair) for pair in zip(asdict(a).values(), asdict(b).values(), strict=True)))
