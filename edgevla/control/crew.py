"""The child processes of a run: started, listened to, and ended without a trace, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package `edgevla`
_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STDERR_TAIL = 4096  # bytes in which a child's last line is looked for
_LAST_WORDS = 400  # characters of it in an error text


@dataclass(frozen=True)
class Event:
    """One line a child said, or its end: {"event": "exited", "code": ...}."""

    child: str
    data: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.data.get("event", ""))


@dataclass
class Child:
    """One running process and what it has said so far."""

    name: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    buffer: bytes = b""
    said: list[dict[str, Any]] = field(default_factory=list)
    listening: bool = True  # its stdout has not reached its end
    ended: bool = False  # its end has been reported

    def last_words(self) -> str:
        """The last line of its standard error, for an error text: of a traceback, the error itself."""
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - _STDERR_TAIL))
        *_, last = ["", *self.errors.read().decode("utf-8", "replace").strip().splitlines()]
        return last[:_LAST_WORDS]


class Interrupt:
    """SIGINT, SIGTERM and SIGHUP while a run lasts: noted, never raised; the arm is stopped in order."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous: dict[int, Any] = {}

    @property
    def fd(self) -> int:
        return self._wake_read

    def _note(self, number: int, _frame: object) -> None:
        self.asked = self.asked or signal.Signals(number).name
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _ASKED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)


class Crew:
    """Children by name. Leaving the `with` block ends every one of them."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._children: dict[str, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(interrupt.fd, selectors.EVENT_READ, None)
        self._wake_fd = interrupt.fd
        self._also: frozenset[int] = frozenset()  # descriptors of others that are watched

    def start(
        self, name: str, module: str, arguments: Iterable[str], fds: Iterable[int], first_line: str = ""
    ) -> Child:
        """`python -m module arguments` in a session of its own, with `fds` and one line on its stdin."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the child
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=tuple(fds),
            start_new_session=True,  # Ctrl-C reaches the parent only, which stops the arm first
            env=environment,
        )
        child = Child(name, process, errors)
        self._children[name] = child
        if process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(process.stdout, selectors.EVENT_READ, child)
        if first_line:
            self.tell(name, first_line)
        return child

    def get(self, name: str) -> Child | None:
        return self._children.get(name)

    def alive(self, name: str) -> bool:
        child = self._children.get(name)
        return child is not None and child.process.poll() is None

    def tell(self, name: str, line: str) -> None:
        """One line to a child's standard input; a child that has ended is noticed elsewhere."""
        stdin = self._children[name].process.stdin
        with contextlib.suppress(OSError, ValueError):
            if stdin is not None:
                stdin.write(line.encode())
                stdin.flush()

    def whisper(self, name: str, line: str) -> bool:
        """As `tell`, but a child that does not listen never holds the caller: the line is dropped, False."""
        child = self._children.get(name)
        if child is None or child.process.stdin is None:
            return False
        fd, data = child.process.stdin.fileno(), line.encode()
        if len(data) > select.PIPE_BUF or not select.select([], [fd], [], 0.0)[1]:  # room for PIPE_BUF: all or nothing
            return False
        with contextlib.suppress(OSError):
            return os.write(fd, data) == len(data)
        return False

    def signal(self, name: str, number: int) -> None:
        child = self._children.get(name)
        if child is not None and child.process.poll() is None:
            child.process.send_signal(number)

    def events(self, timeout_s: float, also: Iterable[int] = ()) -> list[Event]:
        """What the children said within `timeout_s`; returns at the first word, on a signal, or when one of the
        descriptors `also` is readable, which its owner reads."""
        self._watch(frozenset(also))
        found: list[Event] = []
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_fd, 64)
            elif isinstance(key.data, Child):
                found.extend(self._listen(key.data))
        return found

    def _watch(self, fds: frozenset[int]) -> None:
        for fd in self._also - fds:
            self._selector.unregister(fd)
        for fd in fds - self._also:
            self._selector.register(fd, selectors.EVENT_READ, self)
        self._also = fds

    def _listen(self, child: Child) -> Iterator[Event]:
        stdout = child.process.stdout
        if stdout is None:
            return
        with contextlib.suppress(BlockingIOError):
            while child.listening and (data := os.read(stdout.fileno(), 65536)):
                child.buffer += data
            self._deafen(child)
        *lines, child.buffer = child.buffer.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # a library's chatter is no event
                said = json.loads(line)
                if isinstance(said, dict):
                    child.said.append(said)
                    yield Event(child.name, said)
        if not child.listening and not child.ended:
            child.ended = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(1.0)
            yield Event(child.name, {"event": "exited", "code": child.process.poll()})

    def _deafen(self, child: Child) -> None:
        if child.listening and child.process.stdout is not None:
            self._selector.unregister(child.process.stdout)
        child.listening = False

    def end(self, name: str, gently: Iterable[int | None], patience_s: float) -> None:
        """End one child: each of `gently` in turn (None: close its stdin), then SIGKILL; always reaped."""
        child = self._children.pop(name, None)
        if child is None:
            return
        process = child.process
        for step in (*gently, signal.SIGKILL):
            if process.poll() is not None:
                break
            if step is None and process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            elif step is not None:
                process.send_signal(step)
            self._wait(child, patience_s)
        process.wait()
        self._forget(child)

    def _wait(self, child: Child, patience_s: float) -> None:
        """Wait for an end while draining its stdout, so that a child never blocks on its last words."""
        until = time.monotonic() + patience_s
        while child.process.poll() is None and time.monotonic() < until:
            list(self._listen(child))
            time.sleep(0.005)

    def _forget(self, child: Child) -> None:
        stdout = child.process.stdout
        if stdout is not None:
            list(self._listen(child))
            self._deafen(child)
        for stream in (child.process.stdin, stdout, child.errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._children):
            self.end(name, (signal.SIGTERM,), 2.0)
        self._selector.close()
