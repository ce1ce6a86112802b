"""The wire of a virtual device: how long it is busy, who must wait, and what goes wrong on it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.device import Reply
from firmware_bridge.virtual.line import TO_DEVICE, TO_HOST, Line, Trouble


def test_a_byte_takes_ten_bits():
    line = Line(baud=1_000_000)
    assert line.carry(b"x" * 88, TO_DEVICE, 0) == 880_000  # 8N1: facts, section 6: Feetech's 88 bytes, 0.88 ms


def test_a_can_frame_takes_47_bits_and_its_data():
    assert Line(baud=1_000_000).carry(Frame(1, bytes(8)), TO_DEVICE, 0) == 111_000  # facts, section 6: 47 + 8 n


def test_on_a_half_duplex_line_an_answer_waits_for_the_question_to_end():
    line = Line(baud=1_000_000)
    asked_ns = line.carry(b"12345", TO_DEVICE, 100)
    assert line.carry(b"67", TO_HOST, 0) == asked_ns + 20_000
    assert line.busy == [(100, 50_100, TO_DEVICE), (50_100, 70_100, TO_HOST)]


def test_on_a_full_duplex_line_each_direction_has_its_own_lane():
    line = Line(baud=1_000_000, full_duplex=True)
    line.carry(b"12345", TO_DEVICE, 0)
    assert line.carry(b"67", TO_HOST, 0) == 20_000


def test_without_a_baud_rate_nothing_takes_time():
    line = Line()
    assert line.carry(b"x" * 1000, TO_HOST, 7) == 7
    assert line.busy == []


LOADS = st.lists(
    st.tuples(st.binary(min_size=1, max_size=200), st.sampled_from([TO_DEVICE, TO_HOST]), st.integers(0, 10**7)),
    min_size=1,
    max_size=60,
)


@given(loads=LOADS, full_duplex=st.booleans(), baud=st.sampled_from([9600, 57_600, 1_000_000, 3_000_000]))
def test_busy_intervals_of_a_lane_never_overlap_so_its_efficiency_is_never_above_1(loads, full_duplex, baud):
    line = Line(baud=baud, full_duplex=full_duplex)
    for data, direction, ready_ns in loads:
        assert line.carry(data, direction, ready_ns) >= ready_ns + len(data) * 10_000_000_000 // baud
    for lane in (TO_DEVICE, TO_HOST) if full_duplex else (None,):
        busy = [(start, end) for start, end, direction in line.busy if lane in (None, direction)]
        assert all(end <= start for (_, end), (start, _) in pairwise(busy))
        if busy:
            assert sum(end - start for start, end in busy) <= busy[-1][1] - busy[0][0]


def test_the_log_of_busy_intervals_is_bounded(monkeypatch):
    monkeypatch.setattr("firmware_bridge.virtual.line._LOGGED", 100)
    line = Line(baud=1_000_000)
    for _ in range(1_000):
        last_ns = line.carry(b"x", TO_DEVICE, 0)
    assert len(line.busy) <= 100
    assert line.busy[-1][1] == last_ns


# --- trouble ---

REPLIES = [Reply(b"abcd", 5, 0), Reply(b"efgh", 5, 1)]


def test_no_trouble_leaves_everything_as_it_is():
    assert Trouble().after(REPLIES) == REPLIES
    assert Trouble().echo_of(b"abcd") is None


def test_latency_comes_on_top_of_the_return_delay():
    assert [reply.delay_us for reply in Trouble(latency_us=1_000).after(REPLIES)] == [1_005, 1_005]


def test_a_silent_joint_is_silent_and_the_others_are_not():
    assert Trouble(silent={0}).after(REPLIES) == REPLIES[1:]


def test_a_flip_changes_one_bit_of_every_packet():
    for before, after in zip(REPLIES, Trouble(flip=1.0).after(REPLIES), strict=True):
        different = int.from_bytes(before.data, "big") ^ int.from_bytes(after.data, "big")
        assert different.bit_count() == 1


def test_a_cut_loses_the_second_half_and_twice_doubles():
    assert [reply.data for reply in Trouble(cut=1.0).after(REPLIES)] == [b"ab", b"ef"]
    assert [reply.data for reply in Trouble(twice=1.0).after(REPLIES)] == [b"abcd", b"abcd", b"efgh", b"efgh"]


def test_a_swap_exchanges_neighbours_and_noise_comes_in_front():
    assert [reply.data for reply in Trouble(swap=1.0).after(REPLIES)] == [b"efgh", b"abcd"]
    noisy = [reply.data for reply in Trouble(foreign=1.0).after(REPLIES)]
    assert [len(data) for data in noisy] == [4, 4, 4, 4]
    assert noisy[1::2] == [b"abcd", b"efgh"]


def test_an_echo_is_what_was_said_and_a_wrong_one_differs_by_a_bit():
    assert Trouble(echo=True).echo_of(b"ab") == b"ab"
    wrong = Trouble(wrong_echo=True).echo_of(b"ab")
    assert (int.from_bytes(wrong, "big") ^ 0x6162).bit_count() == 1


def test_foreign_frames_have_ids_that_a_bus_could_have():
    noisy = Trouble(foreign=1.0).after([Reply(Frame(0x123, b"ab"))])
    assert [type(reply.data) for reply in noisy] == [Frame, Frame]
    assert 0 <= noisy[0].data.id <= 0x7FF


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"cut": -0.1}, {"flip": float("nan")}, {"latency_us": -1}])
def test_what_is_no_trouble_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Trouble(**wrong)


@given(seed=st.integers(0, 2**32))
def test_the_same_seed_makes_the_same_trouble(seed):
    first, second = (Trouble(flip=0.5, cut=0.3, twice=0.3, swap=0.3, foreign=0.3, seed=seed) for _ in range(2))
    assert [first.after(REPLIES) for _ in range(5)] == [second.after(REPLIES) for _ in range(5)]
