"""One ONNX graph opened in ONNX Runtime, and where its nodes really ran."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgevla.errors import BadInput, Refused, explain
from edgevla.policy.engines import Cache, engine_cache
from edgevla.policy.providers import ON_CPU, RunsOn, option_texts, require_available, require_loaded
from profiles.providers import TENSORRT

_NOT_ON_CPU = "session.disable_cpu_ep_fallback"  # key of ONNX Runtime's session configuration, as the next
_NO_DENORMALS = "session.set_denormal_as_zero"
_FATAL_ONLY = 4  # its severity: an error is raised, and said once


class Session(Protocol):
    """What the engine needs of `onnxruntime.InferenceSession`."""

    def run(self, outputs: list[str] | None, feeds: dict[str, Any]) -> list[Any]: ...


def open_session(
    graph: bytes,
    name: str,
    threads: int = 1,
    arena: bool = True,
    runs_on: RunsOn = ON_CPU,
    profiled: bool = False,
) -> Session:
    """An ONNX Runtime session of one graph. Without the arena it returns memory after each run.

    From then on numbers below 1.2e-38 are zero, in this thread and those that it starts: x86 takes a slow path for
    them, and a masked softmax makes thousands, so a tick would cost more the fuller its window is.

    Raises:
        BadInput: ONNX Runtime cannot load it.
        Refused: a provider asked for is missing, did not load, or leaves nodes to the CPU that may not run there; or
            TensorRT would have to build an engine.
    """
    require_available(runs_on)
    cache = engine_cache(graph, name, runs_on) if TENSORRT in runs_on.providers else None
    session = _created(graph, name, _options(name, threads, arena, runs_on, profiled), runs_on, cache)
    require_loaded(session, runs_on, name)
    if cache is not None:
        cache.opened()
    opened: Session = session
    return opened


def _options(name: str, threads: int, arena: bool, runs_on: RunsOn, profiled: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = arena
    _know_denormals()
    options.add_session_config_entry(_NO_DENORMALS, "1")
    spin = threads > 1 and runs_on.spinning
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    if not runs_on.cpu_allowed:
        options.add_session_config_entry(_NOT_ON_CPU, "1")
        options.log_severity_level = _FATAL_ONLY
    if profiled:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(tempfile.gettempdir(), f"edgevla-{os.getpid()}-{name}")
    return options


def _know_denormals() -> None:
    """NumPy looks up the smallest number of a type once, and warns where it finds zero."""
    for dtype in (np.float16, np.float32, np.float64):
        np.finfo(dtype)


def _created(graph: bytes, name: str, options: Any, runs_on: RunsOn, cache: Cache | None) -> Any:
    import onnxruntime

    told = {provider: option_texts(runs_on.options.get(provider, {})) for provider in runs_on.providers}
    if cache is not None:
        told[TENSORRT] |= cache.options()
    try:  # enable_fallback=0: ONNX Runtime would try again on the CPU, and say so on stdout only
        return onnxruntime.InferenceSession(graph, options, providers=list(told.items()), enable_fallback=0)
    except Exception as error:  # what ONNX Runtime raises has no base class of its own
        text = str(error)[:300]
        if not runs_on.cpu_allowed and "fallback to CPU EP" in text:
            todo = f"name CPUExecutionProvider last in `providers` of the target profile: {name} has nodes that need it"
            wanted = ", ".join(runs_on.providers)
            raise Refused(explain(f"stage {name} does not run on this target", wanted, text, todo)) from error
        todo = "check `provider_options` of the target profile" if runs_on.options else "export the bundle again"
        raise BadInput(explain(f"stage {name}", "a graph that ONNX Runtime loads", text, todo)) from error


def read_back(session: Any) -> dict[str, int]:
    """Nodes by the provider that ran them, from the session's own profile, which ends here and is removed."""
    path = Path(session.end_profiling())
    try:
        events = json.loads(path.read_text())
    finally:
        path.unlink(missing_ok=True)
    ran = {
        event["name"]: event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    return dict(Counter(ran.values()))
