"""Cells of a study, one process for each core; the output of each goes to its folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import BadInput, explain

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
LOG = "output.log"


@dataclass(frozen=True)
class Job:
    """A cell that is not done. command: of this Python, from `-m` on."""

    folder: Path
    command: tuple[str, ...]


def run_all(jobs: Sequence[Job], workers: int) -> None:
    """Runs every job, `workers` at a time, and says what is left. Raises BadInput: one failed; its log is named."""
    waiting, running = list(jobs), {}  # type: list[Job], dict[str, tuple[Job, subprocess.Popen[bytes]]]
    begun, done = time.monotonic(), 0
    while waiting or running:
        while waiting and len(running) < workers:
            job = waiting.pop(0)
            running[job.folder.name] = (job, _started(job))
        time.sleep(0.5)
        for name, (job, process) in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            if process.returncode:
                for _, other in running.values():
                    other.terminate()
                got, todo = f"exit {process.returncode}", f"see {job.folder / LOG}"
                raise BadInput(explain(f"cell {name}", "exit 0", got, todo))
            done += 1
            left_s = (time.monotonic() - begun) / done * (len(jobs) - done)
            print(
                f"{name} is done: {done} of {len(jobs)}, about {left_s / 60:.0f} min left", file=sys.stderr, flush=True
            )


def _started(job: Job) -> subprocess.Popen[bytes]:
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *job.command, "--parent", str(os.getpid())], stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **ONE_THREAD},
        )  # fmt: skip
