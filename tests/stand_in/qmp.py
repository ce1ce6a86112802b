"""The few words of QEMU's machine protocol that a twin needs, over its Unix socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.stand_in.steps import Broken

_LIMIT_S = 120.0


class Qmp:
    """One connection. Raises Broken when the machine refuses or is gone."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_LIMIT_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # its greeting
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: Any) -> Any:
        """What it returns; events that come in between are passed over."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        for line in self._lines:
            said = json.loads(line)
            if "error" in said:
                raise Broken(f"QEMU refuses {command}: {said['error']['desc']}")
            if "return" in said:
                return said["return"]
        raise Broken(f"QEMU ended at {command}")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
