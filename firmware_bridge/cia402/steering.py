"""Taking every drive of a bus through its state machine: controlwords by its newest statusword, a SYNC every 5 ms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from firmware_bridge.cia402 import codec, states
from firmware_bridge.cia402.heard import Heard
from firmware_bridge.cia402.states import State
from firmware_bridge.transport.base import Frame, FrameTransport

_STEP_S = 0.005
_BEATS = 4  # heartbeats of the host per watchdog time, at least
_DRAINED = 80  # reads of a transport at most: 20,000 frames of a babbling bus
Control = Callable[[State | None, int], int]  # (state, controlword before) -> controlword
Wanted = Callable[[State | None], bool]


class HostBeat:
    """The host's heartbeat, which feeds the drives' watchdogs. `on`: they have one."""

    def __init__(self, node: int, watchdog_s: float | None) -> None:
        self._frame = codec.heartbeat(node)
        self._period_ns = int((watchdog_s or 0.0) * 1e9 / _BEATS)
        self._at_ns = 0
        self.on = False

    def start(self, on: bool) -> None:
        """The next one is due at once."""
        self.on, self._at_ns = on, 0

    def due(self) -> list[Frame]:
        """What has to go out now: the heartbeat, or nothing."""
        if not self.on:
            return []
        now_ns = time.monotonic_ns()
        if now_ns - self._at_ns < self._period_ns:
            return []
        self._at_ns = now_ns
        return [self._frame]


class Steering:
    """Drives of `nodes`, in the order of `heard`."""

    def __init__(self, transport: FrameTransport, nodes: Sequence[int], heard: Heard, beat: HostBeat) -> None:
        self._transport, self._nodes, self._heard, self._beat = transport, nodes, heard, beat
        self._controls = [states.DISABLE_VOLTAGE] * len(nodes)  # last controlword

    def run(self, control: Control, wanted: Wanted, targets: Sequence[int], limit_s: float) -> bool:
        """Until `wanted` holds at all; False when it does not within `limit_s`. `targets`: 607A of each, counts."""
        self.drain()
        self._heard.forget_words()
        deadline_ns = time.monotonic_ns() + int(limit_s * 1e9)
        frames: list[Frame] = []
        while time.monotonic_ns() < deadline_ns:
            self._transport.write([*frames, *self._beat.due(), codec.SYNC])
            words = self._collect(min(deadline_ns, time.monotonic_ns() + int(_STEP_S * 1e9)))
            if all(word is not None and wanted(states.state_of(word)) for word in words):
                return True
            frames = self._commands(words, control, targets)
        return False

    def drain(self) -> None:
        """What was queued is older than what follows."""
        for _ in range(_DRAINED):
            frames = self._transport.read()
            for frame in frames:
                self._heard.note(frame)
            if not frames:
                return

    def _commands(self, words: Sequence[int | None], control: Control, targets: Sequence[int]) -> list[Frame]:
        """RPDO1 for those that answered."""
        frames = []
        for joint, word in enumerate(words):
            if word is not None:
                self._controls[joint] = control(states.state_of(word), self._controls[joint])
                frames.append(codec.command(self._nodes[joint], self._controls[joint], targets[joint]))
        return frames

    def _collect(self, deadline_ns: int) -> list[int | None]:
        """Statuswords, as soon as all are there, or at the deadline."""
        heard = self._heard
        while None in heard.words and self._transport.wait_readable(deadline_ns):
            for frame in self._transport.read():
                heard.note_word(frame)
            if time.monotonic_ns() >= deadline_ns:
                break
        words = heard.words
        heard.forget_words()
        return words
