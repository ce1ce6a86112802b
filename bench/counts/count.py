"""Runs of the child under callgrind, in an environment that is always the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.counts import tools
from bench.counts.callgrind import dump, per_call
from bench.counts.limits import IDLE_TYPES
from edgevla.errors import Unsound, explain

PATHS = "bench.suites.paths"
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600
_VALGRIND = ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--dump-line=no")
# Hash seed and addresses decide the order of sets and dicts, threads the order of everything.
_FIXED = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


def count(module: str = PATHS) -> dict[str, float]:
    """Instructions per call by path, the smallest of the runs. Raises Unsound without valgrind or where a run fails."""
    tools.require()
    runs = [_run(module, idle_types) for idle_types in IDLE_TYPES]
    return {path: min(run[path] for run in runs) for path in runs[0]}


def _run(module: str, idle_types: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="edgevla-counts-") as name:
        folder = Path(name)
        library = tools.build(folder)
        asked = ["-m", "bench.counts.child", str(library), module, name, str(idle_types)]
        done = subprocess.run(
            [*_VALGRIND, f"--callgrind-out-file={folder / 'dump'}", sys.executable, *asked],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode != 0:
            got = done.stderr.strip()[-800:] or f"exit status {done.returncode}"
            raise Unsound(explain("counting failed", "every path counted", got, "run its suite: make bench"))
        found = (dump(path.read_text()) for path in sorted(folder.glob("dump.*")))
        return per_call(json.loads(done.stdout.splitlines()[-1]), [one for one in found if one is not None])


def environment() -> dict[str, str]:
    """Little of the caller's: its variables are on the stack, and move what lies there."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "PYTHONPATH": str(ROOT), **_FIXED}
