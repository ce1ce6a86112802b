"""A real writer process, killed by SIGKILL inside a write. A kill counts only when the slot is found torn."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from edgevla.control.shm import Slots

KILLS = 500  # that are observed to have landed inside a write
PATIENCE_S = 200.0  # on a busy machine
PAYLOAD = 1 << 20  # bytes: storing them takes some 200 us, a signal arrives within
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
    old, memory, until = ring._map[at], ring._map, time.monotonic() + PATIENCE_S
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


def test_writers_killed_inside_a_write_leave_the_entry_before_and_successors_go_on(capsys):
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
    with capsys.disabled():
        share = f"{min(torn, default=0)} .. {max(torn, default=0)} of {PAYLOAD} bytes were new"
        print(f"\n  {len(torn)} of {kills} kills landed inside a write ({share}), {time.monotonic() - begun_s:.1f} s")
    assert len(torn) >= KILLS
    ring.close()
