"""Starts the training processes of a distillation, and ends them however this process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from edgevla.control.realtime import die_with_parent
from edgevla.errors import EdgevlaError, explain
from export.request import Request


def run_distillation(request: Request, work: Path, mode: str) -> Path:
    """Starts the distillation on `request.processes` cores, unless its result is already there; returns its file.

    Raises:
        EdgevlaError: the training processes failed.
        KeyboardInterrupt: passed on after they have ended.
    """
    student = work / mode / "student.safetensors"
    if student.exists():
        return student
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    work.mkdir(parents=True, exist_ok=True)
    end_with_us = partial(die_with_parent, os.getpid(), signal.SIGTERM)  # however this process ends, even by SIGKILL
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    workers = ["--nproc_per_node", str(request.processes), "-m", "export.distill.student"]
    command = [*launcher, *workers, *distillation_options(request, work, mode)]
    with subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=end_with_us) as process:
        try:
            code = process.wait()
        except BaseException:
            _end_at_once(process)
            raise
    if code:
        raise EdgevlaError(
            explain("distillation", "processes that end with 0", f"exit code {code}", "see their message above")
        )
    return student


def distillation_options(request: Request, work: Path, mode: str) -> list[str]:
    """What `export.distill.student` is told."""
    teacher, student = request.teacher, request.student
    given: dict[str, object] = {
        "--teacher": teacher.where, "--data": request.data, "--work": work, "--budget": request.budget,
        "--seed": request.seed, "--mode": mode, "--examples": request.examples, "--tokenizer": teacher.tokenizer,
        "--teacher-precision": teacher.precision, "--teacher-steps": teacher.steps, "--embodiment": request.embodiment,
        "--student": student.form, "--depth": student.depth, "--d-max": student.d_max, "--picture": student.picture,
        "--width": student.width, "--finish": request.artifact.kind if student.finish else None,
    }  # fmt: skip
    return [word for key, value in given.items() if value is not None for word in (key, str(value))]


def _end_at_once(launcher: subprocess.Popen[bytes]) -> None:
    """Ends launcher and workers. Asked to end itself, torchrun would print a traceback: so it is not asked."""
    launcher.send_signal(signal.SIGSTOP)  # from here on it starts no worker
    workers = [int(pid) for task in Path(f"/proc/{launcher.pid}/task").glob("*/children") for pid in _words(task)]
    for pid in (launcher.pid, *workers):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    launcher.wait()


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # the thread has ended
        return []
