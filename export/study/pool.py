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
    """Runs every job, `workers` at a time, and says what is left; one that fails stops no other, for each may take
    hours. Raises BadInput, at the end: some failed; their logs are named.
    """
    waiting, running = list(jobs), {}  # type: list[Job], dict[str, tuple[Job, subprocess.Popen[bytes]]]
    begun, done, failed = time.monotonic(), 0, {}  # type: float, int, dict[str, tuple[Job, int]]
    while waiting or running:
        while waiting and len(running) < workers:
            job = waiting.pop(0)
            running[job.folder.name] = (job, _started(job))
        time.sleep(0.5)
        for name, (job, process) in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            done += 1
            if process.returncode:
                failed[name] = (job, process.returncode)
            left_s = (time.monotonic() - begun) / done * (len(jobs) - done)
            end = f"failed, see {job.folder / LOG}" if process.returncode else "is done"
            print(f"{name} {end}: {done} of {len(jobs)}, about {left_s / 60:.0f} min left", file=sys.stderr, flush=True)
    if failed:
        got = ", ".join(f"exit {code}" for _, code in failed.values())
        todo = "see " + ", ".join(str(job.folder / LOG) for job, _ in failed.values())
        raise BadInput(explain(f"cell {', '.join(failed)}", "exit 0", got, todo))


def _started(job: Job) -> subprocess.Popen[bytes]:
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *job.command, "--parent", str(os.getpid())], stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **ONE_THREAD},
        )  # fmt: skip
