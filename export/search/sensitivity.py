"""The action error that each layer adds: quantized alone, and taken out of all-int8. Against FP32, on real frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnxruntime

from edgevla.bundle.manifest import ActionChannel
from edgevla.errors import EdgevlaError
from export.quantize.smoothquant import smooth
from export.search.cache import Cache, digest, key_of
from export.search.engines import Array, Chain, Feeds, ort_chain, stage_feeds
from export.search.error import ActionError, Budget, action_error
from export.search.front import LADDER_KIND, Candidate, Weighed
from export.search.layers import Group, Key, Layer

Calibration = Iterable[Mapping[str, Array]]


class Quantizer(Protocol):
    """`export.quantize.artifact.quantize`."""

    def __call__(
        self, graph: bytes, kind: str, *, calibration: Calibration | None = None, keep: frozenset[str] = frozenset()
    ) -> bytes: ...


class Smoother(Protocol):
    """An equal graph that int8 hurts less, from feeds of real frames."""

    def __call__(self, graph: bytes, calibration: Calibration) -> bytes: ...


def fold(graph: bytes, calibration: Calibration) -> bytes:
    """SmoothQuant where it lowers the int8 error of its products (`export.quantize.smoothquant`)."""
    return smooth(graph, calibration).graph


class Judge:
    """Makes candidates and says how far their chunks are from FP32.

    Args:
        graphs: FP32, by stage, in the order they run.
        frames: feeds of one frame each (batch 1), to judge on.
        calibration: others, for the kinds that need them.
        channels: of the actions.
        times: of the last stage, where it is one step of a flow.
        cache: keeps errors across runs.
    """

    def __init__(
        self,
        graphs: Mapping[str, bytes],
        frames: Sequence[Feeds],
        calibration: Sequence[Feeds],
        channels: Sequence[ActionChannel],
        quantizer: Quantizer,
        times: tuple[float, ...] = (),
        cache: Cache | None = None,
    ) -> None:
        self.graphs, self.times, self.channels = dict(graphs), times, tuple(channels)
        self._frames, self._calibration, self.quantizer = frames, calibration, quantizer
        self.cache = cache or Cache(None)
        self.feeds = stage_feeds(graphs, calibration, times)
        self.identity = digest(graphs, [*frames, *calibration])
        self._committed = np.concatenate([feeds["prefix_mask"] for feeds in frames])
        self._made: dict[tuple[str, str, frozenset[str]], bytes] = {}
        started = time.monotonic()
        self._reference = self.chunks(ort_chain(graphs, times))
        self._reference_s = time.monotonic() - started

    def with_graphs(self, graphs: Mapping[str, bytes]) -> Judge:
        """The same frames and rules for other graphs of the same function."""
        if graphs == self.graphs:
            return self
        return Judge(graphs, self._frames, self._calibration, self.channels, self.quantizer, self.times, self.cache)

    def make(self, candidate: Candidate) -> dict[str, bytes]:
        """The graphs of a candidate."""
        return {stage: self._stage(stage, candidate.kind, candidate.keep_in(stage)) for stage in self.graphs}

    def _stage(self, stage: str, kind: str, keep: frozenset[str]) -> bytes:
        known = (stage, kind, keep)
        made = self._made.pop(known, None)
        if made is None:
            made = self.quantizer(self.graphs[stage], kind, calibration=self.feeds[stage], keep=keep)
        if len(self._made) > 2 * len(self.graphs):  # neighbours share stages; more would fill memory
            self._made.pop(next(iter(self._made)))
        self._made[known] = made
        return made

    def error(self, candidate: Candidate) -> ActionError:
        """Of a candidate, from the cache where it is known."""
        key = key_of(
            "error/1", self.identity, candidate.kind, sorted(candidate.keep), self.channels, onnxruntime.__version__
        )
        known = self.cache.get(key)
        if known is not None:
            return ActionError.from_dict(known)
        found = self.error_of(ort_chain(self.make(candidate), self.times))
        self.cache.put(key, found.as_dict())
        return found

    def seconds_each(self) -> float:
        """About what judging a candidate takes: making it, and a pass over the frames."""
        started = time.monotonic()
        self.make(Candidate(LADDER_KIND))
        return self._reference_s + time.monotonic() - started

    def error_of(self, chain: Chain) -> ActionError:
        return action_error(self._reference, self.chunks(chain), self._committed, self.channels)

    def chunks(self, chain: Chain) -> Array:
        """(F, H, A) without what a flow may carry beside the actions. Copied: an engine may write there again."""
        return np.concatenate([np.array(chain(feeds)[..., : len(self.channels)]) for feeds in self._frames])


def all_but(layers: Sequence[Layer], group: Group) -> frozenset[Key]:
    """The layers that stay in float when only the group is quantized."""
    inside = {layer.key for layer in group}
    return frozenset(layer.key for layer in layers if layer.key not in inside)


def weigh(
    judge: Judge,
    layers: Sequence[Layer],
    groups: Sequence[Group],
    saved_us: Mapping[Key, float],
    budget: Budget,
    both_ways: bool = True,
    done: Callable[[], None] = lambda: None,
) -> tuple[list[Weighed], dict[Key, ActionError]]:
    """Each group alone in int8, and (both_ways) alone in float; the errors alone, by layer. `done` after each run."""
    whole = budget.share(judge.error(Candidate(LADDER_KIND))) if both_ways else 0.0
    weighed, errors = [], dict[Key, ActionError]()
    for group in groups:
        error = judge.error(Candidate(LADDER_KIND, all_but(layers, group)))
        errors.update({layer.key: error for layer in group})
        done()
        relief = None
        if both_ways:
            without = judge.error(Candidate(LADDER_KIND, frozenset(layer.key for layer in group)))
            relief = whole - budget.share(without)
            done()
        saved = sum(saved_us[layer.key] for layer in group)
        weighed.append(Weighed(group, saved, budget.share(error), relief))
    return weighed, errors


def possible(judge: Judge, found: Iterable[Candidate]) -> tuple[list[Candidate], list[str]]:
    """The candidates whose kind can be made of these graphs, and for each other kind a sentence why not."""
    good: list[Candidate] = []
    refused: dict[str, str] = {}
    for candidate in found:
        if candidate.kind in refused:
            continue
        try:
            made = judge.make(candidate)
        except EdgevlaError as error:
            refused[candidate.kind] = f"{candidate.kind} is left out: {in_one_line(error)}"
            continue
        if candidate.kind != "fp32" and made == judge.graphs:
            refused[candidate.kind] = f"{candidate.kind} is left out: nothing here is worth it, the graphs stay FP32"
        else:
            good.append(candidate)
    return good, list(refused.values())


def in_one_line(error: EdgevlaError) -> str:
    """An error as a part of a sentence."""
    return " ".join(str(error).split())
