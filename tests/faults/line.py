"""The line recorder: sits on the serial line between host and virtual arm, stamps every byte, and spoils it on demand.

    python -m tests.faults.line ARM_PORT LOG

It says {"port": ...} for the host, then obeys JSON lines on stdin: {"mode": "pass" | "block" | "cut"} or
{"mode": "noise", "flip": p, "drop": p} (per byte, both directions), each answered with {"mode", "at_ns"}. While the
device has nothing to answer it asks for its state itself, so that the arm's own stop has a time. The log is
written at the end, records (time ns, kind, bytes): h from the host, d delivered to the device, r its reply, p its reply
to our own asking.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import signal
import struct
import sys
import time
import tty
from pathlib import Path
from typing import Any

from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import Decoder, Ping, State
from firmware_bridge.transport.pty import PtyPair

RECORD = struct.Struct("<qcH")  # CLOCK_MONOTONIC ns, kind, length
_SILENT_NS = 30_000_000  # ns without a reply to the host: the state is asked for
_ASK_NS = 2_000_000  # ns between two questions
_LOOK_S = 0.002  # s
_PRIORITY = 60  # SCHED_FIFO: a wire does not wait for a busy host
_SEED = 4


class Line:
    """Bytes from the host to the device and back, as the mode wants it."""

    def __init__(self, arm_port: str) -> None:
        self.pair = PtyPair()
        self._arm_fd = os.open(arm_port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._arm_fd)
        self.records: list[tuple[int, bytes, bytes]] = []
        self._mode: dict[str, Any] = {"mode": "pass"}
        self._random = random.Random(_SEED)
        self._replies, self._asked = Decoder(), Decoder()
        self._heard_ns = self._asked_ns = time.monotonic_ns()
        self._probe, self._sequence = -1, 0

    def step(self, stop_fd: int) -> bool:
        """One wait; False when the parent wants the end."""
        reads = [self._arm_fd, stop_fd, *([] if self._mode["mode"] in ("block", "cut") else [self.pair.master_fd])]
        ready = select.select(reads, [], [], _LOOK_S)[0]
        if self.pair.master_fd in ready:
            self._from_host()
        if self._arm_fd in ready:
            self._from_device()
        now_ns = time.monotonic_ns()
        if now_ns - self._heard_ns > _SILENT_NS and now_ns - self._asked_ns > _ASK_NS:
            self._asked_ns = now_ns
            self._ask()
        return stop_fd not in ready or self._obey(stop_fd)

    def _obey(self, fd: int) -> bool:
        data = os.read(fd, 4096)
        for line in data.splitlines():
            self._mode = json.loads(line)
            if self._mode["mode"] == "cut":
                self.pair.close()
            print(json.dumps({"mode": self._mode["mode"], "at_ns": time.monotonic_ns()}), flush=True)
        return bool(data)

    def _from_host(self) -> None:
        try:
            data = self.pair.read()
        except OSError:
            return
        self.records.append((time.monotonic_ns(), b"h", data))
        for message in self._asked.feed(data):
            self._sequence = message.seq
        self._deliver(self._spoiled(data))

    def _deliver(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._arm_fd, data)
        self.records.append((time.monotonic_ns(), b"d", data))

    def _from_device(self) -> None:
        with contextlib.suppress(OSError):
            data = os.read(self._arm_fd, 4096)
            now_ns = time.monotonic_ns()
            for message in self._replies.feed(data):
                ours = isinstance(message, State) and message.seq == self._probe
                self._heard_ns = self._heard_ns if ours else now_ns
                frame = codec.encode(message)
                self.records.append((now_ns, b"p" if ours else b"r", frame))
                if not ours and self._mode["mode"] != "cut":
                    self.pair.write(self._spoiled(frame))

    def _ask(self) -> None:
        self._probe = (self._sequence + 0x8000) & 0xFFFF
        with contextlib.suppress(OSError):
            os.write(self._arm_fd, codec.encode(Ping(self._probe)))

    def _spoiled(self, data: bytes) -> bytes:
        if self._mode["mode"] != "noise":
            return data
        chance, out = self._random, bytearray()
        for byte in data:
            if chance.random() < self._mode["drop"]:
                continue
            out.append(byte ^ 1 << chance.randrange(8) if chance.random() < self._mode["flip"] else byte)
        return bytes(out)

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            for at_ns, kind, data in self.records:
                file.write(RECORD.pack(at_ns, kind, len(data)) + data)


def load(path: Path) -> list[tuple[int, str, bytes]]:
    """(time ns, kind, bytes) of a saved log."""
    data, at, records = path.read_bytes(), 0, []
    while at < len(data):
        at_ns, kind, length = RECORD.unpack_from(data, at)
        at += RECORD.size
        records.append((at_ns, kind.decode(), data[at : at + length]))
        at += length
    return records


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    line = Line(sys.argv[1])
    print(json.dumps({"port": line.pair.port}), flush=True)
    gc.freeze()
    gc.disable()
    while line.step(0):
        pass
    line.save(Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
