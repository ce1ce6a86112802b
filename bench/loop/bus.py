"""One window of our loop with a bus: wake, send one command, take its reply; the arm is a process on a pty.

    python -m bench.loop.bus --port /dev/pts/3 --rate-hz 500 --samples 2000 --core 1 --out window.npy

Per step, in ns after the deadline: the first byte (the write has returned) and the reply in hand. The driver is
the servo's own; the arm holds: every command is the set-point that it holds already.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.loop.histogram import of_ns, packed, tail
from bench.loop.ours import WARM_UP
from bench.loop.windows import last_event
from edgevla.bundle.arrays import expect, load_npy, npy_bytes
from edgevla.control.child import adopt, emit, guarded
from edgevla.control.clock import Grid, sleep_until
from edgevla.control.realtime import ask
from edgevla.errors import DeviceFault, explain
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.transport.serial import SerialTransport
from profiles import ArmProfile, load_arm
from profiles.bridge import wire_s

ARM = "metaworld-sawyer"
_LEAD_NS = 20_000_000  # before the first deadline
_ARM_S = 30.0
NO_REPLY = -1  # in the column of replies: none within the period


def exchanges(
    link: EdgelinkArm, transport: SerialTransport, profile: ArmProfile, period_ns: int, count: int
) -> NDArray[np.int64]:
    """First byte and reply after the deadline, ns, int64 (count, 2), of an arm that is armed here and holds."""
    held = link.connect().held_setpoint
    ttl_ns = round(profile.command_ttl_s * 1e9)
    times = np.zeros((count, 2), np.int64)
    link.arm()
    grid, step, answers = Grid(time.monotonic_ns() + _LEAD_NS, period_ns), 0, Answers(link, transport)
    for index in range(count):
        step = grid.current_step(step, sleep_until(grid.deadline_ns(step)))
        deadline_ns = grid.deadline_ns(step)
        link.poll()
        written_ns = link.send(held, deadline_ns + ttl_ns)
        times[index, 0] = written_ns - deadline_ns if written_ns else ttl_ns
        times[index, 1] = answers.arrival_ns(deadline_ns, deadline_ns + period_ns // 2)
        step += 1
    return times


class Answers:
    """When the reply to the command just sent is in hand; a late one to an older command is no reply to this."""

    def __init__(self, link: EdgelinkArm, transport: SerialTransport) -> None:
        self._link, self._transport = link, transport
        self._seq: int | None = None  # of the last command, as the replies tell it

    def arrival_ns(self, deadline_ns: int, until_ns: int) -> int:
        """Call once per command. Time after the deadline; NO_REPLY when `until_ns` passes."""
        self._seq = None if self._seq is None else (self._seq + 1) & 0xFFFF
        while self._transport.wait_readable(until_ns):
            state = self._link.poll()
            if state is not None and self._newest(state.last_seq):
                return time.monotonic_ns() - deadline_ns
        return NO_REPLY

    def _newest(self, seq: int) -> bool:
        if self._seq is not None and (seq - self._seq) & 0x8000:
            return False
        self._seq = seq
        return True


def measure(rate_hz: int, samples: int, core: int, arm_core: int, folder: Path) -> dict[str, Any]:
    """One row of the result: the loop with the reference arm's bus at one rate."""
    profile = load_arm(ARM)
    wire = wire_s(profile)
    out = folder / "bus.npy"
    with virtual_arm(arm_core) as port:
        command = [
            sys.executable, "-m", "bench.loop.bus", "--port", port, "--rate-hz", str(rate_hz), "--samples",
            str(samples), "--core", str(core), "--out", str(out),
        ]  # fmt: skip
        event = last_event(command, samples / rate_hz + 60.0)
    told = {key: event[key] for key in ("granted", "link")}
    times = expect(load_npy(out.read_bytes(), out.name), out.name, "int64", (samples, 2))
    return {"rate_hz": rate_hz, "arm": ARM, "wire_us": 1e6 * wire, **_figures(times, wire), **told}


def _figures(times: NDArray[np.int64], wire: float) -> dict[str, Any]:
    replied = times[times[:, 1] != NO_REPLY]
    first, trip = of_ns(times[:, 0]), of_ns(replied[:, 1] - replied[:, 0])
    exchange = tail(trip)
    return {
        "first_byte": {**tail(first).as_dict(), "histogram_us": packed(first)},
        "round_trip": {**exchange.as_dict(), "histogram_us": packed(trip)},
        "no_reply_in_half_a_period": len(times) - len(replied),
        # The pty carries bytes in no time: a line of the profile's baud would add the wire to the host's exchange.
        "wire_efficiency": wire / (wire + exchange.p50_us * 1e-6),
    }


@contextlib.contextmanager
def virtual_arm(core: int) -> Iterator[str]:
    """A virtual arm with the kinematic plant on `core`; yields its port and ends it."""
    command = [sys.executable, "-m", "edgevla.sim.virtual_arm", "--plant", "integrator"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        os.sched_setaffinity(child.pid, {core})
        line = b""
        if child.stdout is not None and select.select([child.stdout], [], [], _ARM_S)[0]:
            line = child.stdout.readline()
        try:
            port = str(json.loads(line)["port"])
        except (ValueError, KeyError, TypeError):
            todo = "try: " + " ".join(command[1:])
            raise DeviceFault(explain("the virtual arm did not start", "its port", line or "silence", todo)) from None
        yield port
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 and the samples in --out, or one error event."""
    arguments = _arguments(argv)
    adopt(arguments.parent, signal.SIGTERM)
    profile = load_arm(ARM)
    transport = SerialTransport(arguments.port, profile.baud)
    link = EdgelinkArm(transport, profile.channels, profile.watchdog_s)
    granted = ask(arguments.priority, arguments.core)
    period_ns = round(1e9 / arguments.rate_hz)
    try:
        times = exchanges(link, transport, profile, period_ns, arguments.samples + WARM_UP)
    finally:
        link.close()
    Path(arguments.out).write_bytes(npy_bytes(times[WARM_UP:]))
    emit("measured", granted=granted.as_dict(), link=asdict(link.counts))
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.loop.bus")
    parser.add_argument("--port", required=True)
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--out", required=True, help="where the samples go, .npy, ns")
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--priority", type=int, default=80, help="SCHED_FIFO")
    parser.add_argument("--parent", type=int, default=os.getppid())
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(guarded(main))
