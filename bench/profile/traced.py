"""A short run of the real loop with ONNX Runtime's profiler on: the material of the time line, not of figures."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from bench.guard.drive import pictures, virtual_arm
from bench.profile.camera import only_camera, publishing
from bench.profile.cold import Asked
from bench.profile.engine import FACTORY, MARKS, TOLD
from bench.profile.graph_runs import GraphRun, graph_runs
from bench.profile.timeline import Traced
from edgevla.control.options import RunOptions
from edgevla.control.run import run
from edgevla.errors import Unsound, explain
from edgevla.policy.process import WARM_UPS

_TRACED = 0.6  # of the armed time


def traced_run(asked: Asked) -> Traced:
    """Runs it. Raises EdgevlaError when it could not begin, Unsound when it ended early or left no profile."""
    plan = replace(asked.plan, engine=FACTORY)
    with tempfile.TemporaryDirectory(prefix="edgevla-profile.") as folder, contextlib.ExitStack() as stack:
        told = {"folder": folder, "inferences": WARM_UPS + _inferences(asked)}
        stack.enter_context(_environment(TOLD, json.dumps(told)))
        options = _options(asked, stack)
        result = run(plan, options)
        if result.exit_code:
            todo = "see that `edgevla run` with the same arguments ends by itself"
            raise Unsound(explain("the traced run", "duration reached", result.stop_reason, todo))
        graphs = _graph_runs(Path(folder))
    until_ns = max(one.end_ns for one in graphs) + round(asked.setup.replan_s * 1e9)
    return Traced(
        result.ticks[result.ticks["deadline_ns"] < until_ns],
        result.inferences[result.inferences["asked_ns"] < max(one.end_ns for one in graphs)],
        {name: rows[rows["visible_ns"] < until_ns] for name, rows in result.captures.items()},
        graphs,
        plan.schedule.delay,
    )


def _inferences(asked: Asked) -> int:
    """That are traced: the rest of the run is left for writing them."""
    return max(2, int(_TRACED * asked.seconds / asked.setup.replan_s))


def _options(asked: Asked, stack: contextlib.ExitStack) -> RunOptions:
    """Real camera processes that play pictures where OpenCV is there; else one slot that this process fills."""
    port = stack.enter_context(virtual_arm(asked.plan))
    sources: dict[str, str] = {}
    slots: dict[str, int] = {}
    if find_spec("cv2") is not None:
        sources = stack.enter_context(pictures(asked.setup))
    else:
        camera = only_camera(asked.plan)
        slots = {camera.name: stack.enter_context(publishing(camera)).fd}
    return RunOptions(
        instruction=asked.setup.instruction,
        port=port,
        cameras=sources,
        camera_fds=slots,
        duration_s=asked.seconds,
        best_effort=asked.best_effort,
    )


def _graph_runs(folder: Path) -> list[GraphRun]:
    if not (folder / MARKS).is_file():
        got, todo = "no profile", "call it again with more --seconds, on a less busy host"
        raise Unsound(explain("the traced run", "ONNX Runtime's profile of every graph", got, todo))
    marks = json.loads((folder / MARKS).read_text())
    return [one for name, runs in marks.items() if runs for one in _of_graph(folder, name, runs)]


def _of_graph(folder: Path, name: str, runs: list[list[int]]) -> list[GraphRun]:
    return graph_runs(name, json.loads((folder / f"{name}.json").read_text()), runs)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable of this process, and so of its children, for as long as the block lasts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
