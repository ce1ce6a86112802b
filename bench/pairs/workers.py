"""The long-lived processes of a comparison: one for each tree, one more for the control; one runs at a time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgevla.errors import Unsound, explain

SCRIPT = Path(__file__).parent / "worker.py"
DEFINITIONS = Path(__file__).parents[1] / "suites" / "paths"
PATIENCE_S = 300.0  # of one answer: making a path may export a model
_END_S = 20


@dataclass(frozen=True)
class Measured:
    """What is compared: the product's package, the definitions of its paths, the bundle, the core for all of it."""

    bundle: Path
    core: int
    package: str = "edgevla"
    definitions: Path = DEFINITIONS


class TreeWorker:
    """A tree's process, see `worker.py`. Raises Unsound when it dies or is silent."""

    def __init__(self, tree: Path, what: Measured) -> None:
        self._tree = tree
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        command = [sys.executable, str(SCRIPT), str(tree), what.package, str(what.definitions), str(what.bundle)]
        env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [*command, str(what.core)],
            cwd=tree,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        """One answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(asked) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._dead("it has ended") from None
        if not select.select([stdout], [], [], PATIENCE_S)[0]:
            raise self._dead(f"no answer in {PATIENCE_S:.0f} s")
        line = stdout.readline()
        if not line:
            raise self._dead("it has ended")
        said: dict[str, Any] = json.loads(line)
        return said

    def __enter__(self) -> TreeWorker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the last question never reached it
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _dead(self, what: str) -> Unsound:
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip()[-500:]
        todo = "run its suite there: make bench"
        return Unsound(explain(f"the process of {self._tree.name}", "an answer", f"{what}: {last}", todo))


@contextmanager
def started(trees: dict[str, Path], what: Measured) -> Iterator[dict[str, TreeWorker]]:
    """A process for each name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(TreeWorker(tree, what)) for name, tree in trees.items()}
