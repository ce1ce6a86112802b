"""Slots: newest whole slot wins, torn slots are never handed out, two processes agree."""

import mmap
import os
import subprocess
import sys

import pytest

from edgevla.control.shm import Slots


@pytest.fixture
def ring():
    slots = Slots.create(64, slots=4)
    yield slots
    slots.close()


def test_an_empty_ring_has_nothing_to_read(ring):
    assert ring.read() is None


def test_the_newest_payload_is_read(ring):
    for text in (b"one", b"two", b"three"):
        ring.write(text)
    assert ring.read() == (3, b"three")


def test_read_after_a_sequence_gives_only_newer_payloads(ring):
    ring.write(b"one")
    assert ring.read(after=1) is None
    ring.write(b"two")
    assert ring.read(after=1) == (2, b"two")


def test_every_single_altered_byte_of_the_newest_slot_falls_back_to_the_one_before(ring):
    ring.write(b"before")
    ring.write(b"newest")
    size = os.fstat(ring.fd).st_size
    with mmap.mmap(ring.fd, size) as raw:
        start = raw.find(b"newest") - 16  # header: sequence u64, length u32, crc u32
        for position in range(start, start + 16 + len(b"newest")):
            raw[position] ^= 0x01
            found = ring.read()
            assert found == (1, b"before"), f"byte {position - start} altered"
            raw[position] ^= 0x01
    assert ring.read() == (2, b"newest")


def test_a_writer_that_attaches_later_goes_on_with_the_sequence(ring):
    ring.write(b"one")
    ring.write(b"two")
    other = Slots.attach(os.dup(ring.fd))
    assert other.write(b"three") == 3
    assert ring.read() == (3, b"three")
    other.close()


def test_a_payload_that_is_too_large_is_refused(ring):
    with pytest.raises(ValueError, match="65 bytes does not fit a slot of 64"):
        ring.write(b"x" * 65)


@pytest.mark.parametrize("size", [0, 8, 4096])
def test_a_descriptor_that_holds_no_ring_is_refused(size):
    fd = os.memfd_create("not-a-ring")
    os.ftruncate(fd, size)
    with pytest.raises(ValueError, match="slot ring"):
        Slots.attach(fd)
    os.close(fd)


@pytest.mark.parametrize(("payload_bytes", "slots"), [(0, 4), (8, 1)])
def test_a_size_that_makes_no_ring_is_refused(payload_bytes, slots):
    with pytest.raises(ValueError, match="slots >= 2"):
        Slots.create(payload_bytes, slots)


def test_the_memory_cannot_be_shrunk_under_the_other_process(ring):
    with pytest.raises(OSError):
        os.ftruncate(ring.fd, 1)


WRITER = """
import sys
from edgevla.control.shm import Slots
ring = Slots.attach(int(sys.argv[1]))
for i in range(1, 20001):
    ring.write(bytes([i % 251]) * (1 + i % 64))
"""


def test_a_reader_beside_a_writing_process_never_sees_a_torn_or_older_payload(ring):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(ring.fd)], pass_fds=[ring.fd])
    last = 0
    while last < 20000:
        assert writer.poll() in (None, 0)
        found = ring.read(after=last)
        if found is None:
            continue
        sequence, payload = found
        assert sequence > last
        assert payload == bytes([sequence % 251]) * (1 + sequence % 64)
        last = sequence
    assert writer.wait(20) == 0


def test_close_twice_is_harmless():
    ring = Slots.create(8)
    ring.close()
    ring.close()
