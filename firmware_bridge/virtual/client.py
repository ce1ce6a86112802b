"""Starting a virtual device in a process of its own, and making things happen to it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any

from firmware_bridge.arm import Joint
from firmware_bridge.errors import BridgeError, explain
from firmware_bridge.protocols import KINDS


class VirtualProcess:
    """A context: the device is there inside, and gone after. `port` is what a driver opens.

    Of CAN that is an interface of this machine where EDGEVLA_CAN names one: `make test-can` runs every test so.
    """

    def __init__(self, protocol: str, joints: Sequence[Joint], **asked: Any) -> None:
        wanted = {"protocol": protocol, "joints": [asdict(joint) for joint in joints], **asked}
        if KINDS[protocol] == "can" and (interface := os.environ.get("EDGEVLA_CAN")):
            wanted.setdefault("link", interface)
        command = [sys.executable, "-m", "firmware_bridge.virtual", json.dumps(wanted)]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        self.port = str(self._answer().get("port"))
        self.pid = self._process.pid

    def do(self, what: str, **more: Any) -> Mapping[str, Any]:
        """One line of `virtual.__main__`. Raises BridgeError when the device does not understand it."""
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self._process.stdin.flush()
        answer = self._answer()
        if not answer.get("done"):
            todo = "see `python -m firmware_bridge.virtual`"
            raise BridgeError(explain(f"the virtual device: {what}", "something it knows", answer.get("error"), todo))
        return answer

    def ended(self) -> int | None:
        """None while the process runs; else its exit code, or minus the signal that ended it."""
        return self._process.poll()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # its process has ended, with a line of ours on its way
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise BridgeError(explain("the virtual device", "an answer", "its process ended", "see its error above"))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> VirtualProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
