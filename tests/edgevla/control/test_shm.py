"""Slots: newest whole slot wins, torn slots are never handed out, two processes agree."""

import mmap
import os
import struct
import subprocess
import sys
import tracemalloc

import pytest

from edgevla.control.shm import FORMAT, Slots
from edgevla.errors import DeviceFault


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


def test_newer_gives_what_came_since_oldest_first(ring):
    assert ring.newer() == []
    for number in range(1, 7):
        ring.write(b"%d" % number)
    assert ring.newer(after=4) == [(5, b"5"), (6, b"6")]
    assert ring.newer() == [(3, b"3"), (4, b"4"), (5, b"5"), (6, b"6")], "the ring holds four"


def test_any_bytes_are_a_payload(ring):
    for payload in (b"", bytearray(b"array"), memoryview(b"view"), memoryview(struct.pack("<2d", 1.0, 2.0)).cast("d")):
        ring.write(payload)
        assert ring.read()[1] == bytes(payload)


def test_a_sequence_is_64_bits_wide(ring):
    ring._next = (1 << 40) + 3
    ring.write(b"far")
    assert ring.read() == ((1 << 40) + 3, b"far")


@pytest.mark.parametrize("size", [0, 8, 4096])
def test_a_descriptor_that_holds_no_ring_is_refused(size):
    fd = os.memfd_create("not-a-ring")
    os.ftruncate(fd, size)
    with pytest.raises(DeviceFault, match="slot ring"):
        Slots.attach(fd)
    os.close(fd)


def test_a_ring_of_another_format_is_refused_with_both_formats(ring):
    ring._map[8:12] = struct.pack("<I", FORMAT + 1)
    with pytest.raises(
        DeviceFault, match=rf"expected: a slot ring of format {FORMAT}\n  got:      format {FORMAT + 1}\n"
    ):
        Slots.attach(ring.fd)


@pytest.mark.parametrize("position", range(12, 32))
def test_an_altered_header_is_refused(ring, position):
    ring._map[position : position + 1] = bytes([ring._map[position] ^ 0x10])
    with pytest.raises(DeviceFault, match="altered header"):
        Slots.attach(ring.fd)


def test_memory_that_can_shrink_is_refused(ring, tmp_path):
    (tmp_path / "ring").write_bytes(ring._map[:])
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.write(loose, ring._map[:])
    file = os.open(tmp_path / "ring", os.O_RDWR)
    for fd in (loose, file):
        with pytest.raises(DeviceFault, match="sealed in size"):
            Slots.attach(fd)
        os.close(fd)


def test_a_cut_ring_is_refused(ring):
    fd = os.memfd_create("cut")
    os.write(fd, ring._map[:-1])
    with pytest.raises(DeviceFault, match=f"{len(ring._map) - 1} bytes"):
        Slots.attach(fd)
    os.close(fd)


def test_all_pages_are_there_from_the_start():
    """Memory that runs out later would end a process with SIGBUS in the middle of a tick."""
    ring = Slots.create(1 << 20, slots=2)
    assert os.fstat(ring.fd).st_blocks * 512 >= 2 << 20
    ring.close()


def test_reading_and_writing_leave_nothing_behind(ring):
    def turn():
        ring.read(ring.write(b"x" * 64) - 1)

    for _ in range(100):
        turn()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5_000):
        turn()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1024


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
