"""The stages of a policy behind each other in one engine: ONNX Runtime, or OpenVINO as a baseline.

A flow step (`times`) is the last stage and runs once per time: it takes `noisy`, the noise first and then its own
`chunk`, and `t`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgevla.errors import BadInput, explain
from edgevla.policy.engine import open_session

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
Run = Callable[[Feeds], dict[str, Array]]
LATENCY = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}  # as OpenVINO's guide for one request at a time


class Chain:
    """Feeds of one frame in, chunk out.

    Args:
        stages: (names of inputs, run) in the order they run.
        times: of the last stage where it is one step of a flow.
    """

    def __init__(self, stages: Iterable[tuple[tuple[str, ...], Run]], times: tuple[float, ...] = ()) -> None:
        self._stages, self._times = tuple(stages), times

    def __call__(self, feeds: Feeds) -> Array:
        """The chunk (1, H, A)."""
        return self.outputs(feeds)["chunk"]

    def outputs(self, feeds: Feeds) -> dict[str, Array]:
        """Every input and every output of a stage by its name; `noisy` and `t` as the last step took them."""
        known = dict(feeds)
        *before, (last_names, last) = self._stages
        for names, run in before:
            known.update(run({name: known[name] for name in names}))
        if not self._times:
            known.update(last({name: known[name] for name in last_names}))
            return known
        known["chunk"] = known["noise"]
        for t in self._times:
            known |= {"noisy": np.array(known["chunk"]), "t": np.array([t], np.float32)}  # copied: see OpenVINO below
            known.update(last({name: known[name] for name in last_names}))
        return known

    def steps(self, count: int) -> Chain:
        """The same with the first `count` times only."""
        return Chain(self._stages, self._times[:count])


def interface_of(graph: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the inputs and outputs of a graph."""
    parsed = onnx.load_model_from_string(graph).graph
    return tuple(value.name for value in parsed.input), tuple(value.name for value in parsed.output)


def ort_chain(graphs: Mapping[str, bytes], times: tuple[float, ...] = ()) -> Chain:
    """On ONNX Runtime, one thread. Raises BadInput: it cannot load a graph."""
    return Chain((_ort_stage(name, graph) for name, graph in graphs.items()), times)


def _ort_stage(name: str, graph: bytes) -> tuple[tuple[str, ...], Run]:
    inputs, outputs = interface_of(graph)
    session = open_session(graph, name)
    return inputs, lambda feeds: dict(zip(outputs, session.run(None, dict(feeds)), strict=True))


def openvino_chain(
    graphs: Mapping[str, bytes], times: tuple[float, ...] = (), int8_frames: Iterable[Feeds] | None = None
) -> tuple[Chain, str]:
    """On OpenVINO, one thread, its latency hint, its own choice of precision, and that choice read back.

    All stages become one graph where they run once each, as its users would do it: a call less per chunk.

    Args:
        int8_frames: feeds to calibrate on; the graphs are then quantized by NNCF with its defaults.

    Raises:
        BadInput: OpenVINO (or NNCF) is not installed.
    """
    whole = {"policy": merged(graphs)} if not times and len(graphs) > 1 else dict(graphs)
    frames = None if int8_frames is None else stage_feeds(whole, int8_frames, times)
    stages, precision = [], "f32"
    for name, graph in whole.items():
        run, precision = _openvino_stage(graph, None if frames is None else frames[name])
        stages.append((interface_of(graph)[0], run))
    return Chain(stages, times), "int8 (NNCF)" if frames is not None else precision


def merged(graphs: Mapping[str, bytes]) -> bytes:
    """All stages as one graph: outputs of a stage go where a later one takes an input of that name.

    Inputs of the same name are fed once. What only an inner stage answers is no output any more.
    """
    from onnx import compose

    models = [_prefixed(graph, f"{name}/") for name, graph in graphs.items()]
    whole = models[0]
    for model in models[1:]:
        made = {value.name for value in whole.graph.output}
        wires = [(value.name, value.name) for value in model.graph.input if value.name in made]
        shared = _share_inputs(whole, model)
        whole = compose.merge_models(whole, model, io_map=wires)
        _feed_once(whole, shared)
    return bytes(whole.SerializeToString())


def _prefixed(graph: bytes, prefix: str) -> onnx.ModelProto:
    from onnx import compose

    model = onnx.load_model_from_string(graph)
    return compose.add_prefix(model, prefix, rename_inputs=False, rename_outputs=False)


def _share_inputs(whole: onnx.ModelProto, model: onnx.ModelProto) -> dict[str, str]:
    """Renames inputs of `model` that `whole` takes too; merging refuses two of one name."""
    taken = {value.name for value in whole.graph.input}
    renamed = {value.name: f"again/{value.name}" for value in model.graph.input if value.name in taken}
    for value in model.graph.input:
        value.name = renamed.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return renamed


def _feed_once(whole: onnx.ModelProto, renamed: Mapping[str, str]) -> None:
    back = {new: old for old, new in renamed.items()}
    for node in whole.graph.node:
        node.input[:] = [back.get(name, name) for name in node.input]
    kept = [value for value in whole.graph.input if value.name not in back]
    del whole.graph.input[:]
    whole.graph.input.extend(kept)


def with_stages(graphs: Mapping[str, bytes], frames: Sequence[Feeds]) -> Sequence[Feeds]:
    """The frames with what these stages answer: those that run once per instruction."""
    if not graphs:
        return frames
    chain = ort_chain(graphs)
    return [chain.outputs(frame) for frame in frames]


def stage_feeds(
    graphs: Mapping[str, bytes], frames: Iterable[Feeds], times: tuple[float, ...] = ()
) -> dict[str, list[dict[str, Array]]]:
    """What each stage is fed on real frames (a flow step: at another of its times in every frame)."""
    chain = ort_chain(graphs, times)
    names = {stage: interface_of(graph)[0] for stage, graph in graphs.items()}
    feeds: dict[str, list[dict[str, Array]]] = {stage: [] for stage in graphs}
    for number, frame in enumerate(frames):
        known = chain.steps(1 + number % max(1, len(times))).outputs(frame)
        for stage, inputs in names.items():
            feeds[stage].append({name: known[name] for name in inputs})
    return feeds


@functools.cache
def _core(openvino: Any) -> Any:
    """One for the process, kept: each moves the signal stack of the thread, and when two go in another order than
    they came it is left unmapped: the next signal ends the process (seen with OpenVINO 2026.4)."""
    return openvino.Core()


def _openvino_stage(graph: bytes, frames: list[dict[str, Array]] | None) -> tuple[Run, str]:
    core = _core(_library("openvino"))
    model = core.read_model(graph, b"")
    if frames is not None:
        model = _nncf_int8(model, frames)
    compiled = core.compile_model(model, "CPU", LATENCY)
    names = tuple(port.get_any_name() for port in compiled.outputs)
    request = compiled.create_infer_request()

    def run(feeds: Feeds) -> dict[str, Array]:
        answer = request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return {name: answer[i] for i, name in enumerate(names)}

    return run, str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def _nncf_int8(model: Any, frames: list[dict[str, Array]]) -> Any:
    nncf = _library("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return nncf.quantize(model, nncf.Dataset(frames), subset_size=len(frames))


def _library(name: str) -> Any:
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise BadInput(
            explain(f"{name} as a baseline", f"{name} installed", str(error), "pip install edgevla[compare]")
        ) from error
