"""Slots under every interleaving and every reordering of stores and loads: the real code on a modelled memory."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import pytest

from edgevla.control import shm
from edgevla.control.shm import SlotRing
from tests.edgevla.control.weak_memory import Choices, History, Ordered, Plain, Weak, words_of

HIGH = (1 << 32) - 2  # sequences that cross a border of 32 bits


@dataclass(frozen=True)
class Case:
    """`ahead`: so many writes may be on their way at most while a reader looks."""

    slots: int
    payload_bytes: int
    lengths: tuple[int, ...]
    ahead: int
    grain: int = 8  # bytes that are stored and loaded as one
    first: int = 1  # sequence of the first write
    turns: int = 2  # how often the ring goes round before the look

    def payloads(self) -> list[bytes]:
        count = self.turns * self.slots + self.ahead
        texts = [bytes([65 + number]) * self.payload_bytes for number in range(count)]
        return [text[: self.lengths[number % len(self.lengths)]] for number, text in enumerate(texts)]


CASES = {
    "two slots, lapped once and a half": Case(2, 16, (16, 8, 4), ahead=3),
    "two slots, lapped twice": Case(2, 8, (8, 5), ahead=5, turns=1),
    "two slots, empty payloads between": Case(2, 8, (8, 0, 3), ahead=4),
    "three slots": Case(3, 8, (8, 5), ahead=3),
    "three slots, lapped": Case(3, 4, (4,), ahead=4, turns=1),
    "four slots": Case(4, 8, (8,), ahead=4, turns=1),
    "words of 4 bytes across 2^32": Case(2, 8, (8, 4), ahead=2, grain=4, first=HIGH),
    "words of 4 bytes, lapped": Case(2, 4, (4, 1), ahead=4, grain=4, first=HIGH, turns=1),
}


class Broken(AssertionError):
    """A look at the ring gave what it must not."""


def explore(case: Case, payloads: list[bytes] | None = None) -> tuple[int, int]:
    """Look at the ring at every age in every way; (executions, choices). Raises Broken."""

    def ring(memory):
        return SlotRing(memory, case.payload_bytes, case.slots)

    history = History(ring, payloads or case.payloads(), case.first, case.grain)
    executions = choices = 0
    for done in range(len(history.entries) - case.ahead + 1):
        newest = case.first + done - 1 if done else 0
        for ahead, after in itertools.product({min(case.ahead, max(1, case.slots - 1)), case.ahead}, {0, newest}):
            choose = Choices()
            reader = ring(Weak(history, done, done + ahead, choose))
            for _ in choose.runs():
                found = reader.read(after)
                judge(found, history, after, newest if ahead < case.slots or case.slots == 1 else 0)
                executions += 1
            choices += choose.made
    return executions, choices


def judge(found, history: History, after: int, at_least: int) -> None:
    """What was found is whole and new; and not older than the newest entry that nobody has overwritten."""
    if found is None:
        if at_least > after:
            raise Broken(f"nothing found, though {at_least} was whole and untouched")
        return
    sequence, payload = found
    if history.entries.get(sequence) != payload:
        raise Broken(f"{payload!r} was never written as {sequence}")
    if sequence <= after or sequence < at_least:
        raise Broken(f"{sequence} is older than {max(after + 1, at_least)}")


@pytest.mark.parametrize("name", CASES)
def test_every_interleaving_and_reordering_gives_a_whole_entry_that_is_new_enough(name, capsys):
    executions, choices = explore(CASES[name])
    with capsys.disabled():
        print(f"\n  {name}: {executions} executions, {choices} choices")
    assert executions > 1000


def test_newer_gives_whole_entries_in_order_and_misses_none_that_nobody_overwrites(capsys):
    case = CASES["two slots, empty payloads between"]

    def ring(memory):
        return SlotRing(memory, case.payload_bytes, case.slots)

    history = History(ring, case.payloads(), 1, 8)
    executions = 0
    for done, ahead in itertools.product(range(2, 5), range(3)):
        choose = Choices()
        reader = ring(Weak(history, done, done + ahead, choose))
        for _ in choose.runs():
            found = reader.newer(after=1)
            sequences = [sequence for sequence, _ in found]
            assert sequences == sorted(set(sequences))
            assert all(history.entries[sequence] == payload for sequence, payload in found)
            untouched = range(max(2, done + ahead - case.slots + 1), done + 1)
            assert set(untouched) <= set(sequences)
            executions += 1
    with capsys.disabled():
        print(f"\n  newer: {executions} executions")


def test_stores_made_visible_one_by_one_in_every_order_give_nothing_beyond_the_model(capsys):
    """The model chooses a version for each load; here the orders of the stores themselves are listed: a cross-check."""
    payloads = [b"A" * 8, b"B" * 8, b"C" * 8]
    ring = SlotRing(Plain(1 << 10), 8, 2)
    history = History(lambda memory: SlotRing(memory, 8, 2), payloads, 1, 8)
    before = Plain(1 << 10)
    for offset, data in (*ring.stores(1, payloads[0]), *ring.stores(2, payloads[1])):
        before[offset : offset + len(data)] = data
    stores = words_of(ring.stores(3, payloads[2]), 8)
    by_order, executions = set(), 0
    for order in itertools.permutations(stores):
        choose = Choices()
        for _ in choose.runs():
            by_order.add(SlotRing(Ordered(bytes(before.raw), list(order), choose, 8), 8, 2).read())
            executions += 1
    choose = Choices()
    reader = SlotRing(Weak(history, 2, 3, choose), 8, 2)
    by_version = {reader.read() for _ in choose.runs()}
    with capsys.disabled():
        print(f"\n  listed orders: {len(stores)} stores, {executions} executions, outcomes {sorted(by_order)}")
    assert by_order == {(2, b"B" * 8), (3, b"C" * 8)}
    assert by_order <= by_version


# --- the same model finds what is broken -------------------------------------------------------------------


def neutral(head: bytes) -> bytes:
    """Four bytes after which a crc32 that began with `head` no longer changes on zeros."""
    return (zlib.crc32(head) ^ 0xFFFFFFFF).to_bytes(4, "little")


def chameleons(case: Case) -> list[bytes]:
    """Payloads that look the same to a checksum without the length, whether zeros follow or not."""
    count = case.turns * case.slots + case.ahead
    payloads = []
    for sequence in range(case.first, case.first + count):
        start = sequence.to_bytes(8, "little")
        body = bytes([65 + sequence]) * 4
        payloads.append(body + neutral(start + body) + bytes(8 * (sequence % 4 // 2)))
    return payloads


def test_a_checksum_without_the_sequence_is_found(monkeypatch):
    monkeypatch.setattr(shm, "checksum", lambda head, payload: zlib.crc32(payload, zlib.crc32(head[8:])))
    with pytest.raises(Broken, match="never written"):
        explore(CASES["three slots"])


def test_a_checksum_without_the_length_is_found(monkeypatch):
    case = Case(2, 16, (16,), ahead=2)
    explore(case, chameleons(case))
    monkeypatch.setattr(shm, "checksum", lambda head, payload: zlib.crc32(payload, zlib.crc32(head[:8])))
    with pytest.raises(Broken, match="never written"):
        explore(case, chameleons(case))


def test_a_checksum_without_the_end_of_the_payload_is_found(monkeypatch):
    monkeypatch.setattr(shm, "checksum", lambda head, payload: zlib.crc32(payload[:8], zlib.crc32(head)))
    with pytest.raises(Broken, match="never written"):
        explore(CASES["two slots, lapped once and a half"])


def test_a_checksum_that_nobody_looks_at_is_found(monkeypatch):
    monkeypatch.setattr(shm, "checksum", lambda head, payload: 0)
    with pytest.raises(Broken, match="never written"):
        explore(CASES["three slots"])


def test_a_ring_of_a_single_slot_is_found():
    with pytest.raises(Broken, match="nothing found"):
        explore(Case(1, 8, (8,), ahead=1))


def test_a_writer_that_overwrites_the_newest_slot_is_found(monkeypatch):
    real = SlotRing.stores

    def same_slot_twice(self, sequence, payload):
        body, (_, header) = real(self, sequence, payload)
        offset = self._offsets[sequence // 2 % self.slots]
        return (offset + 16, body[1]), (offset, header)

    monkeypatch.setattr(SlotRing, "stores", same_slot_twice)
    with pytest.raises(Broken):
        explore(Case(2, 8, (8,), ahead=1))


def test_a_reader_that_takes_an_older_entry_from_the_slot_it_looked_at_is_found(monkeypatch):
    def careless(self, after=0):
        for _, slot in self._seen(after):
            entry = self._load(slot)
            if entry is not None and entry[0] > after:
                return entry
        return None

    monkeypatch.setattr(SlotRing, "read", careless)
    with pytest.raises(Broken, match="older"):
        explore(CASES["three slots"])
