"""Rows: nothing torn, nothing twice, every lost row counted; beside a real writer and a reader that is stopped."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import struct
import time
import tracemalloc

import numpy as np
import pytest

from edgevla.control.shm import FORMAT, HEADER_BYTES, Slots
from edgevla.errors import DeviceFault
from edgevla.telemetry import rows as rows_module
from edgevla.telemetry.rows import Rows, inference_dtype, tick_dtype

SMALL = np.dtype([("step", "<i8"), ("double", "<i8")])
ODD = np.dtype([("flag", "u1"), ("values", "<f4", (3,))])  # 13 bytes: not a whole number of words


@pytest.fixture
def rows():
    made = Rows.create(SMALL, 4)
    yield made
    made.close()


def fill(rows: Rows, count: int) -> None:
    for _ in range(count):
        step = rows.count
        rows.append((step, 2 * step))


def steps(found) -> list[int]:
    assert (found["double"] == 2 * found["step"]).all()
    return found["step"].tolist()


def test_what_is_appended_is_read_in_order_with_the_columns_of_its_users():
    rows = Rows.create(ODD, 3)
    rows.append((7, (1.0, 2.0, 3.0)))
    rows.append((8, (4.0, 5.0, 6.0)))
    found = rows.newest()
    assert found.dtype == ODD
    assert found["flag"].tolist() == [7, 8]
    assert found["values"].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    rows.close()


@pytest.mark.parametrize("dtype", [tick_dtype(7, 14), inference_dtype()])
def test_the_rows_of_a_run_go_through_unchanged(dtype):
    generator = np.random.default_rng(0)
    wanted = np.frombuffer(generator.bytes(5 * dtype.itemsize), dtype)
    rows = Rows.create(dtype, 5)
    for row in wanted:
        rows.append(tuple(row))
    assert rows.newest().tobytes() == wanted.tobytes()
    rows.close()


def test_the_newest_rows_are_kept_and_all_are_counted(rows):
    assert rows.newest().dtype == SMALL
    assert len(rows.newest()) == rows.count == 0
    fill(rows, 11)
    assert rows.count == 11
    assert steps(rows.newest()) == [7, 8, 9, 10]


def test_a_cursor_takes_each_row_once(rows):
    fill(rows, 3)
    found, cursor, lost = rows.since(0)
    assert (steps(found), cursor, lost) == ([0, 1, 2], 3, 0)
    assert [len(part) if isinstance(part, np.ndarray) else part for part in rows.since(cursor)] == [0, 3, 0]
    fill(rows, 2)
    found, cursor, lost = rows.since(cursor)
    assert (steps(found), cursor, lost) == ([3, 4], 5, 0)


def test_a_reader_that_was_lapped_is_told_how_many_rows_it_lost(rows):
    fill(rows, 2)
    _, cursor, _ = rows.since(0)
    fill(rows, 9)
    found, cursor, lost = rows.since(cursor)
    assert (steps(found), cursor, lost) == ([7, 8, 9, 10], 11, 5)


def test_what_was_read_stays_what_it_was(rows):
    fill(rows, 4)
    found = rows.newest()
    fill(rows, 4)
    assert steps(found) == [0, 1, 2, 3]


def test_a_writer_that_follows_goes_on_with_the_count(rows):
    fill(rows, 6)
    other = Rows(os.dup(rows.fd), SMALL)
    fill(other, 1)
    assert (rows.count, steps(rows.newest())) == (7, [3, 4, 5, 6])
    other.close()


# --- every part of a write visible, in every order -----------------------------------------------------------


def images(written: int, capacity: int) -> tuple[Rows, bytes, list[tuple[int, bytes]]]:
    """Rows with `written` rows; the memory before the next one; the words that the next one changes."""
    rows = Rows.create(SMALL, capacity)
    fill(rows, written)
    before = rows._map[:]
    fill(rows, 1)
    after = rows._map[:]
    rows._map[:] = before
    changed = [at for at in range(0, len(before), 8) if before[at : at + 8] != after[at : at + 8]]
    return rows, before, [(at, after[at : at + 8]) for at in changed]


def every_part(capacity: int):
    """Every subset of the words of every write: what a reader may find, and what a dead writer may leave."""
    for written in range(2 * capacity + 1):
        rows, before, words = images(written, capacity)
        for size in range(len(words) + 1):
            for part in itertools.combinations(words, size):
                rows._map[:] = before
                show(rows, part)
                yield rows, written, words, part
        rows.close()


def show(rows: Rows, words) -> None:
    for at, word in words:
        rows._map[at : at + 8] = word


def look_at_every_part(capacity: int) -> int:
    looks = 0
    for rows, written, _, _ in every_part(capacity):
        for cursor in {0, max(0, written - 1), written}:
            found, now, lost = rows.since(cursor)
            assert len(found) + lost == now - cursor
            assert set(steps(found)) <= set(range(cursor, now))
            if cursor == written:
                assert lost == 0, "a row whose stores are on their way is not lost"
            looks += 1
    return looks


@pytest.mark.parametrize("capacity", [2, 3])
def test_whatever_part_of_an_append_is_visible_no_row_is_torn_and_none_that_comes_is_lost(capacity, capsys):
    looks = look_at_every_part(capacity)
    with capsys.disabled():
        print(f"\n  rows, capacity {capacity}: {looks} looks")


def test_a_row_that_becomes_visible_late_is_read_then():
    for rows, written, words, _ in every_part(2):
        _, cursor, _ = rows.since(written)
        show(rows, words)
        found, cursor, lost = rows.since(cursor)
        assert cursor == written + 1
        assert lost == 0
        assert steps(found) in ([written], [])  # [] = the first look had it


def test_a_successor_of_a_writer_that_died_anywhere_in_an_append_goes_on():
    for rows, written, _, part in every_part(2):
        successor = Rows(os.dup(rows.fd), SMALL)
        begun = successor._resume()
        assert begun in (written, written + 1)
        successor.append((begun, 2 * begun))
        found, cursor, _ = rows.since(begun)
        assert (steps(found), cursor) == ([begun], begun + 1), part
        successor.close()


def test_rows_with_a_checksum_that_nobody_looks_at_are_found_torn(monkeypatch):
    monkeypatch.setattr(rows_module, "row_checksum", lambda checked: 0)
    with pytest.raises(AssertionError):
        look_at_every_part(2)


def test_a_checksum_without_the_number_of_the_row_is_found(monkeypatch):
    monkeypatch.setattr(rows_module, "_CHECKED_FROM", 16)
    with pytest.raises(AssertionError):
        look_at_every_part(2)


class Overtaken(Rows):
    """A reader that the writer overtakes: before each copy so many rows are appended."""

    def overtake(self, *counts: int) -> None:
        self.ahead, self.writer = list(counts), Rows(os.dup(self.fd), SMALL)

    def _copy(self, begin, end):
        fill(self.writer, self.ahead.pop(0) if self.ahead else 0)
        return super()._copy(begin, end)


@pytest.mark.parametrize("first", range(7))
@pytest.mark.parametrize("second", range(3))
def test_a_reader_lapped_while_it_copies_counts_what_it_lost_and_gets_nothing_twice(first, second):
    rows = Rows.create(SMALL, 4)
    fill(rows, 6)
    reader = Overtaken(os.dup(rows.fd), SMALL)
    reader.overtake(first, second)
    found, cursor, lost = reader.since(1)
    assert steps(found) == list(range(2 + first, 6)), "rows 2 .. 5 were kept, the first of them were overwritten"
    assert len(found) + lost == cursor - 1
    more, cursor, lost_again = reader.since(cursor)
    assert cursor == reader.count
    assert lost + lost_again + len(found) + len(more) == cursor - 1
    assert steps(more) == list(range(max(6, cursor - 4), cursor))
    for part in (rows, reader, reader.writer):
        part.close()


# --- altered memory ------------------------------------------------------------------------------------------


def test_an_altered_count_is_found_again_from_the_rows(rows):
    fill(rows, 6)
    rows._map[32:40] = struct.pack("<Q", 1 << 50)
    assert rows.count == 6
    assert steps(rows.since(2)[0]) == [2, 3, 4, 5]
    other = Rows(os.dup(rows.fd), SMALL)
    fill(other, 1)
    assert (rows.count, steps(rows.newest())) == (7, [3, 4, 5, 6])
    other.close()


def test_an_altered_row_is_left_out_and_counted_as_lost(rows):
    fill(rows, 4)
    at = HEADER_BYTES + 2 * rows._itemsize + 20
    rows._map[at : at + 1] = b"\xee"
    found, cursor, lost = rows.since(0)
    assert (steps(found), cursor, lost) == ([0, 1, 3], 4, 1)


def test_rows_that_begin_again_at_zero_are_read_by_an_old_cursor(rows):
    fill(rows, 9)
    _, cursor, _ = rows.since(0)
    rows._map[32:] = bytes([0x77]) * (len(rows._map) - 32)
    assert rows.since(cursor)[1:] == (cursor, 0)
    other = Rows(os.dup(rows.fd), SMALL)
    fill(other, 2)
    found, cursor, lost = rows.since(cursor)
    assert (steps(found), cursor, lost) == ([0, 1], 2, 0)
    other.close()


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_anywhere_give_whole_rows_or_none(seed):
    generator = random.Random(seed)
    rows, cursor, written = Rows.create(SMALL, 8), 0, 0
    for _ in range(200):
        for _ in range(generator.randrange(4)):
            rows.append((written, 2 * written))
            written += 1
        start = generator.randrange(32, len(rows._map))
        noise = generator.randbytes(generator.randrange(1, 60))[: len(rows._map) - start]
        rows._map[start : start + len(noise)] = noise
        found, now, lost = rows.since(cursor)
        assert len(found) + lost == now - cursor
        assert set(steps(found)) <= set(range(cursor, min(now, written)))
        cursor = now
    rows.append((written, 2 * written))
    assert steps(rows.since(cursor)[0])[-1] == written
    rows.close()


def test_rows_with_other_columns_are_refused(rows):
    with pytest.raises(DeviceFault, match="other columns"):
        Rows(rows.fd, ODD)
    with pytest.raises(DeviceFault, match="other columns"):
        Rows(rows.fd, np.dtype([("step", "<i8"), ("triple", "<i8")]))


def test_rows_of_another_format_and_other_memory_are_refused(rows):
    ring = Slots.create(64)
    with pytest.raises(DeviceFault, match="rows of measurements"):
        Rows(ring.fd, SMALL)
    ring.close()
    rows._map[8:12] = struct.pack("<I", FORMAT + 1)
    with pytest.raises(DeviceFault, match=f"format {FORMAT + 1}"):
        Rows(rows.fd, SMALL)


def test_a_capacity_that_makes_no_ring_is_refused():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        Rows.create(SMALL, 1)


def test_appending_and_reading_leave_nothing_behind(rows):
    def turn(cursor: int) -> int:
        rows.append((cursor, 2 * cursor))
        return rows.since(cursor)[1]

    cursor = 0
    for _ in range(300):
        cursor = turn(cursor)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(3_000):
        cursor = turn(cursor)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert cursor == 3_300
    assert grown < 1024


# --- real processes ------------------------------------------------------------------------------------------

WIDE = np.dtype([("step", "<i8"), ("values", "<f8", (24,))])
LIFE_S = 2.0


class CountingRows(Rows):
    """Also counts the records that were not handed out."""

    caught = 0

    def _judge(self, raw, numbers):
        whole = super()._judge(raw, numbers)
        self.caught += int((~whole).sum())
        return whole


def child(work) -> int:
    """Fork; the child does `work` and never comes back. Its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def write_rows(fd: int, parent: int) -> None:
    rows = Rows(os.dup(fd), WIDE)
    step = rows._resume()
    while os.getppid() == parent:
        rows.append((step, float(step)))
        step += 1


def read_rows(fd: int, order_fd: int, result_fd: int) -> None:
    """Until the order to end, and then to the end of the rows."""
    rows, order = CountingRows(os.dup(fd), WIDE), Slots.attach(os.dup(order_fd))
    cursor = taken = told_lost = torn = late = 0
    last, ended = -1, False
    while not ended:
        ended = order.read() is not None  # before the look: the last look sees all
        found, now, lost = rows.since(cursor)
        torn += int((found["values"] != found["step"][:, None]).any(axis=1).sum())
        late += int((np.diff(found["step"], prepend=last) <= 0).sum()) + int((found["step"] >= now).sum())
        taken, told_lost = taken + len(found), told_lost + lost
        last, cursor = int(found["step"][-1]) if len(found) else last, now
    result = {"taken": taken, "lost": told_lost, "torn": torn, "late": late, "cursor": cursor, "caught": rows.caught}
    os.write(result_fd, json.dumps(result).encode())
    os._exit(0)


def test_beside_a_writer_at_full_speed_a_stopped_reader_gets_no_torn_row_and_a_true_count_of_lost_ones(capsys):
    generator, parent = random.Random(4), os.getpid()
    rows, order = Rows.create(WIDE, 64), Slots.create(8)
    result, result_end = os.pipe()
    reader = child(lambda: read_rows(rows.fd, order.fd, result_end))
    writers, until = 0, time.monotonic() + LIFE_S
    while time.monotonic() < until:
        writer, writers = child(lambda: write_rows(rows.fd, parent)), writers + 1
        for _ in range(20):
            time.sleep(generator.uniform(0, 0.004))
            os.kill(reader, signal.SIGSTOP)
            time.sleep(generator.uniform(0, 0.002))
            os.kill(reader, signal.SIGCONT)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    order.write(b"end")
    found = json.loads(os.read(result, 4096))
    assert os.waitpid(reader, 0)[1] == 0
    with capsys.disabled():
        print(f"\n  {writers} writers, {rows.count} rows: {found}")
    assert found["torn"] == found["late"] == 0
    assert found["cursor"] == rows.count
    assert found["taken"] + found["lost"] == rows.count
    assert found["taken"] > 1000
    assert found["lost"] > 100
    assert found["caught"] > 100
    os.close(result)
    os.close(result_end)
    for part in (rows, order):
        part.close()
