"""Kills real writer processes inside a write, in a process of its own: `python -m` this module.

Of its own because the writers are forked: in a fork of the whole test run some library's thread may have held a lock
that the child then waits for, and copying that many page tables takes longer than a write.
"""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np

from edgevla.control.shm import Slots

KILLS = 500  # that are observed to have landed inside a write
PATIENCE_S = 200.0  # in all, on a busy machine
BEGIN_S = 2.0  # for one writer to begin its write; a kill before that does not count
PAYLOAD = 1 << 21  # bytes: storing them takes some 400 us, a signal arrives within
EARLY = 1 << 14  # bytes into the payload: memcpy begins near here; the very first and last bytes it stores at the end


def text_of(sequence: int) -> bytes:
    return bytes([1 + sequence % 251]) * PAYLOAD


def body_of(ring: Slots, sequence: int) -> int:
    """Where the payload of that sequence lies."""
    return ring._offsets[sequence % 2] + 16


def write_until_killed(ring: Slots, parent: int, sequence: int) -> None:
    """The child. Its own ring object: it finds out by itself where to go on."""
    try:
        writer = Slots.attach(os.dup(ring.fd))
        while os.getppid() == parent:
            sequence = writer.write(text_of(sequence)) + 1
    finally:
        os._exit(1)


def kill_inside_a_write(ring: Slots, newest: int) -> None:
    """Start a writer, wait until it has begun to store, kill it."""
    at, parent = body_of(ring, newest + 1) + EARLY, os.getpid()
    old, memory, until = ring._map[at], ring._map, time.monotonic() + BEGIN_S
    writer = os.fork()
    if writer == 0:
        write_until_killed(ring, parent, newest + 1)
    while memory[at] == old and time.monotonic() < until:
        time.sleep(1e-5)  # who sleeps is woken at once on a busy machine; who spins waits for its turn
    os.kill(writer, signal.SIGKILL)
    _, status = os.waitpid(writer, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def torn_after(ring: Slots, sequence: int) -> int:
    """Bytes of the payload that are new when the slot of `sequence` is partly new and its checksum wrong; else 0."""
    at = body_of(ring, sequence)
    body = np.frombuffer(ring._map[at : at + PAYLOAD], np.uint8)
    new = int((body == text_of(sequence)[0]).sum())
    return new if new < PAYLOAD and ring._load(sequence % 2) is None else 0


def kill_writers() -> dict[str, float]:
    """Kill until KILLS are seen to have landed inside a write. Fails where a reader or a successor is misled."""
    ring = Slots.create(PAYLOAD, slots=2)
    newest = 0
    for _ in range(2):
        newest = ring.write(text_of(newest + 1))
    kills, torn = 0, []
    begun_s = time.monotonic()
    while len(torn) < KILLS and time.monotonic() - begun_s < PATIENCE_S:
        kill_inside_a_write(ring, newest)
        kills += 1
        found = ring.read()
        assert found is not None
        assert found[0] >= newest
        assert found[1] == text_of(found[0])
        if new := torn_after(ring, found[0] + 1):
            torn.append(new)
        successor = Slots.attach(os.dup(ring.fd))
        expected = successor._resume()
        newest = successor.write(text_of(expected))
        assert newest == expected > found[0]
        assert ring.read(after=found[0]) == (newest, text_of(newest))
        successor.close()
    ring.close()
    least, most = min(torn, default=0), max(torn, default=0)
    return {"landed": len(torn), "kills": kills, "least": least, "most": most, "took_s": time.monotonic() - begun_s}


if __name__ == "__main__":
    print(json.dumps(kill_writers()))
