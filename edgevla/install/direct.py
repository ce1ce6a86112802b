"""The service without systemd: `edgevla run` as a child in a session of its own, in a private prefix.

PREFIX/run/edgevla.pid   its process, and when that began: a number that another process has meanwhile is not it
PREFIX/run/run.sock      where it is asked
PREFIX/log/run.log       what it says; begun anew when it is long
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from edgevla.errors import DeviceFault, explain
from edgevla.install.launch import PURE, current_release
from edgevla.install.watch import Health, status_of, watch

_START_S, _STOP_S, _KILL_S = 120.0, 60.0, 5.0  # s; a stop is a ramp, a hold, and where torque goes off its wait
_LINES = 20
_LOG_BYTES = 4 << 20
_LOOK_S = 0.05


class Direct:
    """For tests and robots whose init is another. Best effort is accepted: an ordinary user has no real time.

    No boot selector here: `start` counts no try and returns from no release, as systemd's unit does before each start.
    Nothing but the installer starts this service, and nothing starts it again: the installer has called `recover`
    itself, watches the start and the health window, and goes back. Counted tries would only be its own. Where it is
    killed, the next one that takes its lock recovers and goes back; at a boot nothing starts at all.
    """

    def __init__(self, prefix: Path, best_effort: bool = True) -> None:
        self.prefix, self._best_effort = prefix, best_effort
        self.runtime, self._log = prefix / "run", prefix / "log" / "run.log"
        self._pid_file = self.runtime / "edgevla.pid"

    def install_units(self, folder: Path) -> None:
        """Nothing to place: there is no systemd, and /etc is not this user's."""
        del folder

    def place_rules(self, folder: Path, port: str) -> None:
        """Nothing to place."""
        del folder, port

    def remove_units(self) -> None:
        """Nothing was placed."""

    def stop(self) -> None:
        """See ServiceManager."""
        pid = self._pid()
        for number, patience_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _KILL_S)):
            if pid is None or _gone(pid, 0.0):
                break
            with suppress(ProcessLookupError):
                os.kill(pid[0], number)
            _gone(pid, patience_s)
        if pid is not None and not _gone(pid, 0.0):
            todo = "look at the arm, then end the process by hand"
            raise DeviceFault(explain("the service does not stop", "an end", f"process {pid[0]} lives", todo))
        self._pid_file.unlink(missing_ok=True)

    def start(self) -> None:
        """See ServiceManager. Idempotent: one that runs is left alone."""
        if self.is_active():
            return
        for folder in (self.runtime, self._log.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        python = current_release(self.prefix) / "venv" / "bin" / "python3"
        with _notified() as (address, heard), _appending(self._log) as log:
            begins = os.fstat(log).st_size
            process = subprocess.Popen(
                [str(python), "-I", "-B", "-m", "edgevla.install.launch", str(self.prefix.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.runtime,
                start_new_session=True,
                env={
                    **_environment(),
                    **PURE,
                    "NOTIFY_SOCKET": address,
                    "XDG_STATE_HOME": str(self.prefix.resolve() / "var"),
                },
            )
            self._remember(process.pid)
            if not _ready(heard, process):
                self.stop()
                said = "\n".join(self._said_since(begins))
                got = f"exit code {process.poll()}; its newest lines:\n{said}\n"
                todo = f"read the lines above; {self._log} has all of them"
                raise DeviceFault(explain("the service did not start", f"READY=1 within {_START_S:g} s", got, todo))

    def is_active(self) -> bool:
        """See ServiceManager."""
        pid = self._pid()
        return pid is not None and not _gone(pid, 0.0)

    def pid(self) -> int | None:
        """Of the process that runs."""
        found = self._pid()
        return found[0] if found and self.is_active() else None

    def health(self, ticks: int, timeout_s: float) -> Health:
        """See ServiceManager."""
        return watch(lambda: status_of(self.runtime), self.is_active, ticks, timeout_s, self._best_effort)

    def logs(self, lines: int) -> list[str]:
        """See ServiceManager."""
        with suppress(OSError), self._log.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, lines)]
        return []

    def _said_since(self, begins: int) -> list[str]:
        """The newest lines of the start that failed, and of none before it."""
        with suppress(OSError), self._log.open("rb") as file:
            file.seek(begins)
            return [raw.decode("utf-8", "replace").rstrip("\n") for raw in deque(file, _LINES)]
        return []

    def _remember(self, pid: int) -> None:
        staging = self._pid_file.with_suffix(".new")
        staging.write_text(f"{pid} {_began(pid)}\n")
        staging.replace(self._pid_file)

    def _pid(self) -> tuple[int, int] | None:
        """Process and its beginning, as they were noted."""
        with suppress(OSError, ValueError):
            pid, began = map(int, self._pid_file.read_text().split())
            return pid, began
        return None


def _environment() -> dict[str, str]:
    """The caller's, without what would tell the run of another service or another Python."""
    dropped = ("RUNTIME_DIRECTORY", "WATCHDOG_USEC", "WATCHDOG_PID", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in dropped}


@contextmanager
def _notified() -> Iterator[tuple[str, socket.socket]]:
    """An abstract socket for sd_notify: it has no path that could be too long, and goes with its holder."""
    name = f"edgevla-{secrets.token_hex(16)}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as heard:
        heard.bind(f"\0{name}")
        yield f"@{name}", heard


def _ready(heard: socket.socket, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        if select.select([heard], [], [], _LOOK_S)[0] and b"READY=1" in heard.recv(4096).split(b"\n"):
            return True
    return False


@contextmanager
def _appending(path: Path) -> Iterator[int]:
    """The log; the one before is kept when it is long."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".1.log"))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _began(pid: int) -> int:
    """Clock ticks since boot at which the process began; -1: there is none, or it has ended and waits to be reaped."""
    with suppress(OSError, ValueError, IndexError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if state not in "ZX":
            return int(rest[18])  # field 22 of proc(5); `rest` begins with field 4
    return -1


def _gone(process: tuple[int, int], patience_s: float) -> bool:
    pid, began = process
    until = time.monotonic() + patience_s
    while True:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # where it is our child
        if _began(pid) != began or began < 0:
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK_S)
