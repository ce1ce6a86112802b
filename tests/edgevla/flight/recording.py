"""The recorder as a process of its own, fed through real rings."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time

from edgevla.control.shm import Slots
from edgevla.flight.recorder import RecorderConfig
from edgevla.flight.tape import observation_bytes, pack_observation
from edgevla.telemetry.rows import Rows, inference_dtype, tick_dtype


class Recording:
    """`with Recording(path, meta) as recording`: rings, and a recorder that drains them."""

    def __init__(self, path, meta, limit_mb=64, capacity=4096, side=96, preexec=None):
        self.ticks = Rows.create(tick_dtype(4, 4), capacity)
        self.inferences = Rows.create(inference_dtype(), capacity)
        self.tape = Slots.create(observation_bytes(2, 4, 4, 32, {"corner": (side, side)}), 8)
        fds = (self.ticks.fd, self.inferences.fd, self.tape.fd)
        config = RecorderConfig(os.getpid(), str(path), *fds, 4, 4, limit_mb, meta)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgevla.flight.recorder"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds, preexec_fn=preexec,
        )  # fmt: skip
        self.said = []
        self.tell_line(config.line())

    def tell_line(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def event(self, name, **fields):
        self.tell_line(json.dumps({"event": name, "at_ns": time.monotonic_ns(), **fields}) + "\n")

    def wait_for(self, name, timeout_s=20):
        """The event of that name."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            for event in self.said:
                if event["event"] == name:
                    return event
            if select.select([self.process.stdout], [], [], 0.05)[0]:
                line = self.process.stdout.readline()
                assert line, f"the recorder ended: {self.said}"
                self.said.append(json.loads(line))
        raise AssertionError(f"no {name} within {timeout_s} s: {self.said}")

    def feed(self, flight, pause_s=0.0):
        """Everything of a flight; `pause_s` after each observation, so that the ring of 8 is not overrun."""
        waiting = list(flight.observations)
        for row in flight.ticks:
            self.ticks.append(tuple(row))
            while waiting and waiting[0].tick <= row["tick"]:
                self.tape.write(pack_observation(waiting.pop(0)))
                time.sleep(pause_s)
        for row in flight.inferences:
            self.inferences.append(tuple(row))

    def end(self):
        """What it says when its stdin closes."""
        self.process.stdin.close()
        told = self.wait_for("recorded")
        assert self.process.wait(10) == 0
        return told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        for ring in (self.ticks, self.inferences, self.tape):
            ring.close()
