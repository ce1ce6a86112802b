"""One real run with a recorder on its line: virtual arm, line, supervisor, camera, servo, policy, flight recorder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.ladder import Phase
from edgevla.telemetry.png import encode_png
from edgevla.telemetry.rows import Rows, tick_dtype
from tests.faults.line import load

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0  # for a start or an end on a busy machine
_ARM_PRIORITY = 50  # SCHED_FIFO: it stands in for hardware
CHANNELS = 4
MODULES = {
    "servo": "edgevla.control.servo",
    "policy": "edgevla.policy.process",
    "recorder": "edgevla.flight.recorder",
    "camera": "edgevla.sensors.process",
}


class Child:
    """A process whose JSON or text lines are kept, with the time each was read."""

    def __init__(self, module: str, *arguments: str, fds: tuple[int, ...] = (), **env: str) -> None:
        self.module = module
        self.lines: list[tuple[int, str]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
        )
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._listen, args=(self.process.stdout, self.lines, True), daemon=True),
            threading.Thread(target=self._listen, args=(self.process.stderr, self.errors, False), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _listen(stream: Any, into: list[Any], timed: bool) -> None:
        for line in stream:
            into.append((time.monotonic_ns(), line.strip()) if timed else line)

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self.process.stdin is not None:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()

    def until(self, word: str) -> str:
        """The first line that holds `word`. Raises RuntimeError when the process ends or is silent for too long."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            ended = self.process.poll() is not None
            for _, line in self.lines:
                if word in line:
                    return line
            if ended or time.monotonic() > give_up:
                said = [*(line for _, line in self.lines), *"".join(self.errors).splitlines()]
                raise RuntimeError(
                    f"no {word!r} from the {self.module} process; its last words: {' | '.join(said[-6:])}"
                )
            time.sleep(0.01)

    def end(self) -> None:
        """Close its stdin; kill it if that is not enough."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(2.0)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Rig:
    """Up to the moment at which the arm sways; then the fault is the caller's."""

    def __init__(self, folder: Path, servo: str = "", record: Path | None = None, **host: Any) -> None:
        self.folder, self._servo, self.record, self._told = folder, servo, record, host
        self.orders = folder / "fault.json"
        self.out, self._log = folder / "run.json", folder / "line.log"
        self._children: list[Child] = []
        self._rows: Rows | None = None

    def __enter__(self) -> Rig:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _start(self) -> None:
        self.arm = self._child("edgevla.sim.virtual_arm", "--plant", "integrator", "--period-s", "0.0125")
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{self.arm.pid}/task"):
                os.sched_setscheduler(int(task), os.SCHED_FIFO, os.sched_param(_ARM_PRIORITY))
        port = json.loads(self.arm.until('"port"'))["port"]
        self.line = self._child("tests.faults.line", port, str(self._log))
        picture = self.folder / "grey.png"
        picture.write_bytes(encode_png(np.full((96, 96, 3), 60, np.uint8)))
        told = {
            "port": json.loads(self.line.until('"port"'))["port"],
            "camera": f"file:{picture},loop",
            "out": str(self.out),
            "servo": self._servo,
            "record": str(self.record) if self.record else None,
            **self._told,
        }
        self.host = self._child("tests.faults.host", json.dumps(told), EDGEVLA_FAULT=str(self.orders))
        self.host.until("armed")
        self._rows = Rows(self._open("servo", "edgevla-rows")[0], tick_dtype(CHANNELS, CHANNELS))
        self.wait(lambda: (self.rows()["phase"] == Phase.TRACK).sum() > 60, "a second of tracking")

    def _child(self, module: str, *arguments: str, **named: Any) -> Child:
        child = Child(module, *arguments, **named)
        self._children.append(child)
        return child

    # --- looking at the run -------------------------------------------------------------------------------------

    def rows(self) -> NDArray[Any]:
        """Tick rows so far; the memory is held here too, so that they outlive every process."""
        return self._rows.newest() if self._rows is not None else np.zeros(0, tick_dtype(CHANNELS, CHANNELS))

    def pid(self, child: str) -> int:
        """Of a child of the run. Raises ProcessLookupError when there is none."""
        module = self._servo if child == "servo" and self._servo else MODULES[child]
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.host.pid and module.encode() in words:
                    return int(entry.name)
        raise ProcessLookupError(f"no {child} process")

    def _open(self, child: str, name: str) -> list[int]:
        """The shared memories of that name which a child of the run holds, as descriptors of ours."""
        folder, found = Path(f"/proc/{self.pid(child)}/fd"), {}
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                if f"memfd:{name} " in os.readlink(entry):
                    found[os.stat(entry).st_ino] = entry
        return [os.open(entry, os.O_RDWR | os.O_CLOEXEC) for entry in found.values()]

    def memories(self, child: str, name: str) -> list[int]:
        """As `_open`; the caller closes them."""
        return self._open(child, name)

    def wait(self, reached: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
        give_up = time.monotonic() + patience_s
        while not reached():
            if time.monotonic() > give_up:
                raise TimeoutError(f"not within {patience_s:g} s: {what}")
            time.sleep(0.01)

    # --- orders ---------------------------------------------------------------------------------------------------

    def ask_engine(self, kind: str, value: float = 0.0) -> int:
        """Have the engine break at its next inference; returns when it began."""
        begun, staging = self.orders.with_suffix(".begun"), self.orders.with_suffix(".new")
        staging.write_text(json.dumps({"kind": kind, "value": value}))
        staging.replace(self.orders)
        self.wait(begun.exists, f"the engine begins {kind}")
        return int(begun.read_text())

    def ask_line(self, mode: str, **values: float) -> int:
        """Change the line; returns when it was changed."""
        before = len(self.line.lines)
        self.line.tell(json.dumps({"mode": mode, **values}))
        self.wait(lambda: len(self.line.lines) > before, f"the line is {mode}")
        return int(json.loads(self.line.lines[before][1])["at_ns"])

    @property
    def ended(self) -> bool:
        return self.host.process.poll() is not None

    def run_for(self, seconds: float) -> None:
        """Until the run has ended by itself, at most `seconds`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.ended:
            time.sleep(0.01)

    def finish(self) -> tuple[list[tuple[int, str, bytes]], dict[str, Any], int]:
        """End what still runs: (log of the line, result of the run, when the end was asked for)."""
        if (self.host.process.poll() or 0) < 0:  # its children stop the arm without it
            time.sleep(1.0)
        end_ns = time.monotonic_ns()
        with contextlib.suppress(OSError):
            self.host.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.host.process.wait(PATIENCE_S)
        for child in (self.host, self.line, self.arm):
            child.end()
        result = json.loads(self.out.read_text()) if self.out.exists() else {}
        return load(self._log), result, end_ns

    def close(self) -> None:
        for child in self._children:
            if child.process.poll() is None:
                child.end()
        self._children = []
        if self._rows is not None:
            self._rows.close()
            self._rows = None
