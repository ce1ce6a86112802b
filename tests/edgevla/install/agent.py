"""One client of a real `edgevla-agent rpc`, over pipes; as `edgevla deploy` is, over SSH."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from edgevla.install import agent
from edgevla.install.frames import read_frame, write_frame
from edgevla.install.layout import Layout
from edgevla.install.tools import tools_of
from tests.acting_release import write_release
from tests.edgevla.install.kit import Made, new_key, read_release

AGENT = str(Path(agent.__file__))


class Refusal(Exception):
    """What the agent answered instead of a result."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["text"])
        self.exit_code = error["exit_code"]


class Client:
    """A context manager. `ask` returns the result or raises Refusal; `events` has those of the last request."""

    def __init__(self, layout: Layout, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-I", AGENT, "--prefix", str(layout.prefix), "rpc"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self._numbers = itertools.count(1)
        self.events: list[Mapping[str, Any]] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self.stdin.close()
        self.stdout.close()
        self.process.wait(60)

    def ask(self, do: str, payload: bytes = b"", **fields: Any) -> Mapping[str, Any]:
        number = next(self._numbers)
        write_frame(self.stdin, {"id": number, "do": do, **fields}, payload)
        self.events = []
        while True:
            frame = read_frame(self.stdout)
            assert frame is not None, "the agent has left"
            assert frame.header["id"] == number
            if "event" in frame.header:
                self.events.append(frame.header["event"])
            elif frame.header["ok"]:
                return frame.header["result"]
            else:
                raise Refusal(frame.header["error"])

    def offer(self, made: Made) -> Mapping[str, Any]:
        index = made.index
        sizes = {
            "manifest_bytes": len(made.manifest),
            "signature_bytes": len(made.signature),
            "index_bytes": len(index),
        }
        return self.ask("offer", made.manifest + made.signature + index, **sizes)

    def send(self, made: Made) -> int:
        """Everything up to a release that is complete in staging; returns the bytes of chunks that travelled."""
        content, sent = made.chunks(), 0
        for name in self.offer(made)["missing"]:
            self.ask("chunks", content[name], lengths=[len(content[name])])
            sent += len(content[name])
        assert self.offer(made)["missing"] == []
        self.ask("assemble", release=made.id)
        return sent


def working_release(counter: int, **behaviour: Any) -> Made:
    """A release that a real agent installs and starts, see `tests.acting_release`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "tiny.bundle")
        write_release(folder, new_key(), counter, behaviour)
        return read_release(folder)


def stop_service(layout: Layout) -> None:
    tools_of(layout).manager.stop()
