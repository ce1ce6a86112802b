"""An install or a rollback in a process and session of its own: a lost connection does not cut it.

The parent hands over the lock's descriptor and follows log/deploy.jsonl, where every step and the outcome are written.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgevla.errors import BadInput, DeviceFault, explain
from edgevla.install.deploy_log import DeployLog, lines_of, new_deploy
from edgevla.install.frames import error_of
from edgevla.install.install import Install
from edgevla.install.layout import Layout, linked_id, require_release_id
from edgevla.install.lock import InstallLock
from edgevla.install.rollback import Rollback
from edgevla.install.settings import restore_settings
from edgevla.install.state import read_state
from edgevla.install.steps import Options, Outcome, Say, stop_on_signals
from edgevla.install.switch import go_back
from edgevla.install.tools import tools_of

DO = ("install", "rollback")
_POLL_S = 0.05
_MAX_WORDS = 64 * 1024


@dataclass(frozen=True)
class Job:
    """What shall be done. `id` None: a rollback to the release before."""

    do: str
    id: str | None
    options: Mapping[str, Any]

    @classmethod
    def of(cls, do: str, data: Mapping[str, Any]) -> Job:
        """From a request, or the text of one. Raises BadInput."""
        options = data.get("options", {})
        if do not in DO or not isinstance(options, dict):
            what, todo = "that is no job of the installer", "deploy again; both ends may be of different versions"
            raise BadInput(explain(what, f"one of {', '.join(DO)}, options as a table", repr(do)[:100], todo))
        free = do == "rollback" and data.get("id") is None
        job = cls(do, None if free else require_release_id(data.get("id")), options)
        Options.of(options)
        return job

    def to_text(self) -> str:
        return json.dumps({"do": self.do, "id": self.id, "options": dict(self.options)})


def run_job(layout: Layout, job: Job, deploy: str) -> Outcome:
    """Here and now; the caller holds the lock. Its lines stand in the log under the name `deploy`. Raises nothing."""
    log = DeployLog(layout.log, deploy)
    stop_on_signals()
    try:
        log.write({"do": job.do, "id": job.id, "from": linked_id(layout.current)})
        tools, options = tools_of(layout), Options.of(job.options)
        if job.do == "install":
            outcome = Install(layout, job.id or "", tools, options, log.write).run()
        else:
            outcome = Rollback(layout, job.id, tools, options, log.write).run()
    except Exception as error:
        told = error_of(error)
        outcome = Outcome(job.id or "", False, told["text"], told["exit_code"])
    log.write({"outcome": outcome.as_dict()})
    return outcome


@dataclass(frozen=True)
class Running:
    """A job in its process."""

    process: subprocess.Popen[bytes]
    deploy: str  # its name in the log
    words: IO[bytes]  # what it prints: nothing, unless it is broken


def start_job(layout: Layout, job: Job, lock: InstallLock) -> Running:
    """In a session of its own, holding the lock. Raises OSError."""
    deploy = new_deploy(layout.log)
    agent = Path(__file__).with_name("agent.py")
    command = [sys.executable, "-I", "-B", str(agent), "--prefix", str(layout.prefix), "job"]
    command += ["--lock-fd", str(lock.fileno()), "--deploy", deploy, job.to_text()]
    words = tempfile.TemporaryFile()  # noqa: SIM115 it is read when the process has died; without a name nothing is left
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=words,
        stderr=words,
        cwd="/",
        start_new_session=True,
        pass_fds=(lock.fileno(),),
    )
    return Running(process, deploy, words)


def follow(layout: Layout, running: Running, say: Say) -> dict[str, Any]:
    """Say its steps as they come; returns the outcome.

    A process that ended without one was killed: then what ran before runs again, and this raises DeviceFault. What
    `say` raises leaves the process at work. The log is read when it has grown: the old release still drives its arm.
    """
    given, read_bytes = 0, -1
    while True:
        ended = running.process.poll() is not None  # asked before the log is read: what it wrote last is in it
        size_bytes = _size_bytes(layout.log)
        lines = lines_of(layout.log, running.deploy) if ended or size_bytes != read_bytes else []
        read_bytes = size_bytes
        for line in lines[given:]:
            if "outcome" in line:
                running.process.wait()
                outcome: dict[str, Any] = line["outcome"]
                return outcome
            if "step" in line:
                say(line)
        given = max(given, len(lines))
        if ended:
            raise _killed(layout, running)
        time.sleep(_POLL_S)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # not written yet
        return 0


def _killed(layout: Layout, running: Running) -> DeviceFault:
    running.words.seek(0)
    said = running.words.read(_MAX_WORDS).decode(errors="replace").strip().splitlines()
    got = f"it ended with {running.process.returncode}: {said[-1] if said else 'without a word'}"
    try:
        todo = f"deploy again; {_set_right(layout) or 'no release'} runs"
    except Exception as error:
        todo = f"deploy again; the old release could not be started: {error_of(error)['text'].splitlines()[0]}"
    fault = DeviceFault(explain("the installer was killed", "an outcome", got, todo))
    with contextlib.suppress(OSError):  # the disk may be full
        outcome = Outcome("", False, str(fault), fault.exit_code)
        DeployLog(layout.log, running.deploy).write({"outcome": outcome.as_dict()})
    return fault


def _set_right(layout: Layout) -> str | None:
    """The good release that runs after an installer was killed; it is left alone where it never stopped."""
    state, current, tools = read_state(layout), linked_id(layout.current), tools_of(layout)
    if state.trial is None and current in state.good and tools.manager.is_active():
        restore_settings(layout)
        return current
    return go_back(layout, tools, None)
