"""A writer that ends anywhere in a write, memory that is altered: readers and the next writer go on."""

from __future__ import annotations

import itertools
import os
import random
import struct
import time

import pytest

from edgevla.control.shm import HEADER_BYTES, SEQUENCES, SlotRing, Slots
from tests.edgevla.control.weak_memory import Plain, words_of

TEXTS = [bytes([65 + number]) * (24 - 5 * (number % 3)) for number in range(12)]


def store(memory, stores):
    for offset, data in stores:
        memory[offset : offset + len(data)] = data


def ring_after(written: int, slots: int) -> SlotRing:
    ring = SlotRing(Plain(1 << 10), 24, slots)
    for text in TEXTS[:written]:
        ring.write(text)
    return ring


def successor_of(ring: SlotRing) -> SlotRing:
    return SlotRing(ring._memory, ring.payload_bytes, ring.slots)


@pytest.mark.parametrize("slots", [2, 3, 4])
@pytest.mark.parametrize("written", range(9))
def test_a_writer_stopped_after_each_store_leaves_the_entry_before_and_a_successor_goes_on(slots, written):
    sequence, text = written + 1, TEXTS[written]
    before = (written, TEXTS[written - 1]) if written else None
    words = words_of(ring_after(0, slots).stores(sequence, text), 8)
    for visible in range(len(words) + 1):
        ring = ring_after(written, slots)
        store(ring._memory, words[:visible])
        found = successor_of(ring).read()
        assert found == ((sequence, text) if visible == len(words) else before)
        successor = successor_of(ring)
        last = found[0] if found else 0
        for payload in (b"next", b"one more"):
            went_on = successor.write(payload)
            assert went_on > last
            assert ring.read(after=last) == (went_on, payload)
            last = went_on


def test_a_writer_stopped_anywhere_in_the_real_memory_leaves_the_entry_before():
    ring = Slots.create(24, 2)
    ring.write(TEXTS[0])
    for _ in range(3):
        before = ring.read()
        words = words_of(ring.stores(before[0] + 1, TEXTS[1]), 8)
        for count in range(len(words)):
            store(ring._map, words[:count])
            assert ring.read() == before
        other = Slots.attach(os.dup(ring.fd))
        assert other.write(TEXTS[2]) > before[0]
        assert ring.read(after=before[0])[1] == TEXTS[2]
        other.close()
    ring.close()


def test_whatever_part_of_a_dead_and_of_the_next_write_is_visible_a_reader_finds_a_whole_new_entry(capsys):
    looks = 0
    for slots, written in itertools.product((2, 3), (1, 2, 5)):
        dead = words_of(ring_after(0, slots).stores(written + 1, TEXTS[written]), 8)
        for torn in subsets(dead[:-1]):  # the last one would make it whole
            ring = ring_after(written, slots)
            store(ring._memory, torn)
            successor = successor_of(ring)
            sequence = successor._resume()
            stopped = bytes(ring._memory.raw)
            allowed = {(written, TEXTS[written - 1]), (sequence, TEXTS[9])}
            for visible in subsets(words_of(successor.stores(sequence, TEXTS[9]), 8)):
                ring._memory.raw[:] = stopped
                store(ring._memory, visible)
                assert ring.read() in allowed
                looks += 1
    with capsys.disabled():
        print(f"\n  dead writer and successor: {looks} looks")


def subsets(stores):
    return itertools.chain.from_iterable(itertools.combinations(stores, size) for size in range(len(stores) + 1))


@pytest.mark.parametrize("sequence", [6, 1 << 32, SEQUENCES - 1, SEQUENCES, (1 << 64) - 1])
def test_a_torn_slot_with_the_highest_sequence_blinds_neither_reader_nor_writer(sequence):
    ring = ring_after(5, slots=4)
    offset = ring._offsets[6 % 4]
    ring._memory[offset : offset + 8] = struct.pack("<Q", sequence)
    assert ring.read() == (5, TEXTS[4])
    successor = successor_of(ring)
    for payload in TEXTS[:9]:
        assert ring.read(after=successor.write(payload) - 1) == (successor._next - 1, payload)
    assert successor._next < 100


def test_the_successor_of_a_damaged_ring_stays_above_what_a_reader_has_seen():
    """The newest entry was read, then altered, then its writer died: its number must not come again."""
    for slots, damaged in itertools.product((2, 3, 4), (1, 2, 3)):
        ring = ring_after(9, slots)
        for sequence in range(9, 9 - min(damaged, slots), -1):
            offset = ring._offsets[sequence % slots] + 12
            ring._memory[offset : offset + 4] = b"\xff\xff\xff\xff"
        went_on = successor_of(ring).write(b"next")
        assert went_on > 9
        assert ring.read(after=9) == (went_on, b"next")


def test_a_ring_in_which_nothing_is_whole_goes_on_above_any_sequence_there_was():
    ring = ring_after(9, 4)
    ring._memory[HEADER_BYTES : 1 << 10] = bytes([0x5A]) * ((1 << 10) - HEADER_BYTES)
    assert ring.read() is None
    begun_ns = time.monotonic_ns()
    assert begun_ns <= successor_of(ring).write(b"next") < SEQUENCES
    assert ring.read(after=9)[1] == b"next"


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_anywhere_give_whole_entries_or_none(seed):
    generator = random.Random(seed)
    ring = Slots.create(200, slots=4)
    written = {}
    for _ in range(200):
        if generator.random() < 0.5:
            payload = generator.randbytes(generator.randrange(201))
            written[ring.write(payload)] = payload
        else:
            start = generator.randrange(HEADER_BYTES, len(ring._map))
            noise = generator.randbytes(generator.randrange(1, 400))[: len(ring._map) - start]
            ring._map[start : start + len(noise)] = noise
        after = generator.choice([0, max(0, len(written) - 3)])
        for found in [ring.read(after), *ring.newer(after)]:
            assert found is None or (found[0] > after and written[found[0]] == found[1])
    sequence = ring.write(b"at last")
    assert ring.read() == (sequence, b"at last")
    ring.close()


def test_a_slot_that_was_copied_to_another_place_is_not_an_entry():
    ring = ring_after(5, 4)
    one, two = ring._offsets[5 % 4], ring._offsets[2 % 4]
    ring._memory[two : two + 64] = ring._memory[one : one + 64]
    assert [sequence for sequence, _ in ring.newer()] == [3, 4, 5]


def test_a_write_that_an_exception_cuts_short_never_has_its_sequence_used_again():
    class Interrupted(Plain):
        cut = False

        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            if self.cut and key.stop - key.start == 16:  # the header is the last store
                raise KeyboardInterrupt

    ring = SlotRing(Interrupted(1 << 10), 24, 2)
    ring.write(b"one")
    ring._memory.cut = True
    with pytest.raises(KeyboardInterrupt):
        ring.write(b"two")
    ring._memory.cut = False
    assert ring.write(b"three") == 3
