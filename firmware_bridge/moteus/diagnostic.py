"""The diagnostic channel of one virtual moteus: `conf get NAME` in pieces of text, its answer in pieces again."""

from __future__ import annotations

from collections.abc import Mapping

from firmware_bridge.moteus.controller import DEFAULT_TIMEOUT_S

_MOST = 61  # bytes of text in a frame
_KEPT = 256  # bytes of a line that does not end


class Diagnostic:
    """`options` as `controller.OPTIONS`."""

    def __init__(self, options: Mapping[str, float]) -> None:
        self._known = {
            "servopos.position_min": options["position_min"],
            "servopos.position_max": options["position_max"],
            "servo.pid_position.kp": options["kp"],
            "servo.pid_position.kd": options["kd"],
            "servo.default_timeout_s": DEFAULT_TIMEOUT_S,
        }
        self._timeout_mode = int(options["timeout_mode"])
        self._heard, self._answer = bytearray(), bytearray()

    def hear(self, text: bytes) -> None:
        """Text of the host; a line is answered when its newline is there."""
        self._heard += text
        while b"\n" in self._heard:
            line, _, rest = bytes(self._heard).partition(b"\n")
            self._heard = bytearray(rest)
            self._answer += self._said(line.decode(errors="replace").strip())
        del self._heard[:-_KEPT]

    def speak(self, most: int) -> bytes:
        """Up to `most` bytes of what is still to be said."""
        text = bytes(self._answer[: min(most, _MOST)])
        del self._answer[: len(text)]
        return text

    def _said(self, line: str) -> bytes:
        name = line.removeprefix("conf get ")
        if name == "servo.timeout_mode":
            return b"%d\r\n" % self._timeout_mode
        return f"{self._known[name]:f}\r\n".encode() if name in self._known else b"ERR unknown\r\n"
