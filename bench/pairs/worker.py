"""One tree's process: python worker.py TREE PACKAGE DEFINITIONS BUNDLE CORE. Started by `bench.pairs.workers`.

The product comes from TREE, what is measured from DEFINITIONS, which are the same for both trees. Standard library
only, as TREE may be of any age. One JSON object a line, in and out:

    {"make": NAME}     {"ready": true, "call_ns": shortest, "pure": ...} | {"lacks": why}
    {"calls": N}       {"ns": of N calls}: CPU time of a pure path, else wall time
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LOOKS, LOOK_S = 10, 0.5  # calls, and time, before the first block


def main(tree: str, package: str, definitions: str, bundle: str, core: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the product prints is not an answer
    sys.path[:] = [tree, *(entry for entry in sys.path if entry not in (tree, str(Path(__file__).parent)))]
    os.sched_setaffinity(0, {int(core)})
    found = importlib.import_module(package).__file__ or ""
    if not Path(found).resolve().is_relative_to(Path(tree).resolve()):
        raise SystemExit(f"{package} comes from {found}, not from the tree that is to be measured")
    worker = Worker(_loaded(definitions), Path(bundle))
    for line in sys.stdin:
        asked = json.loads(line)
        said = worker.make(asked["make"]) if "make" in asked else worker.run(asked["calls"])
        answers.write(json.dumps(said) + "\n")
        answers.flush()
    worker.close()


def _loaded(definitions: str) -> Any:
    """The package in that folder under a name of its own: TREE may have one of the same name, and older."""
    spec = importlib.util.spec_from_file_location(
        "measured_paths", Path(definitions) / "__init__.py", submodule_search_locations=[definitions]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measured_paths"] = module
    spec.loader.exec_module(module)
    return module


class Worker:
    """One path at a time."""

    def __init__(self, definitions: Any, bundle: Path) -> None:
        self._definitions, self._bundle = definitions, bundle
        self._paths = {path.name: path for path in definitions.all_paths()}
        self._place: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def make(self, name: str) -> dict[str, Any]:
        """Ready, warm, and its result judged; or what the tree lacks."""
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="edgevla-pairs-")
        path = self._paths[name]
        self._place = self._definitions.Place(Path(self._folder.name), self._bundle, index_mb=25)
        try:
            made = path.make(self._place)
            if not made.right(made.call()):
                return {"lacks": "its result is another"}
            self._call, self._again = made.call, made.again
            self._clock = time.thread_time_ns if path.pure else time.perf_counter_ns
            call_ns = self._shortest_ns()
        except Exception as error:
            return {"lacks": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        gc.collect()
        gc.freeze()
        gc.disable()
        return {"ready": True, "call_ns": call_ns, "pure": path.pure}

    def run(self, calls: int) -> dict[str, Any]:
        call, clock = self._call, self._clock
        if self._again is not None:  # the other tree had its turn: a pause
            self._again()
        begin = clock()
        for _ in range(calls):
            call()
        return {"ns": clock() - begin}

    def close(self) -> None:
        """What the path opened is closed; the collector is on again."""
        if self._place is not None:
            self._place.stack.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._place = self._folder = None
        gc.unfreeze()
        gc.enable()

    def _shortest_ns(self) -> int:
        best, until = 1 << 62, time.perf_counter() + LOOK_S
        for _ in range(LOOKS):
            best = min(best, self.run(1)["ns"])
            if time.perf_counter() > until:
                break
        return max(best, 1)


if __name__ == "__main__":
    main(*sys.argv[1:6])
