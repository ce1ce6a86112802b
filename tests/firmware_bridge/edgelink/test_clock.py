"""The device's clock as the host knows it: arithmetic that survives the wrap and never breaks causality."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.edgelink.clock import clock_offset, host_ns, narrowed_offset

U32 = 2**32


def test_the_offset_takes_the_device_to_have_stamped_half_way():
    assert clock_offset(device_us=1_000, sent_us=400, received_us=600) == 500
    assert clock_offset(device_us=100, sent_us=400, received_us=600) == U32 - 400


@pytest.mark.parametrize(
    ("device_us", "narrowed"),
    [
        (1_050, 1_000),  # inside: at 50 on the host, between 20 and 80
        (1_010, 990),  # at 10: before the request left; 20 is the earliest
        (1_019, 999),  # a microsecond counts
        (1_020, 1_000),  # as the request left
        (1_080, 1_000),  # as the reply was read
        (1_081, 1_001),
        (1_100, 1_020),  # at 100: after the reply was read; 80 is the latest
    ],
)
def test_the_offset_moves_as_little_as_causality_asks_for(device_us, narrowed):
    assert narrowed_offset(1_000, device_us, sent_us=20, received_us=80) == narrowed


@given(
    true_offset=st.integers(0, U32 - 1),
    error_us=st.integers(-1_000_000, 1_000_000),
    sent_us=st.integers(0, 2**45),
    out_us=st.integers(0, 50_000),
    back_us=st.integers(0, 50_000),
)
def test_a_narrowed_offset_is_never_worse_and_never_off_by_more_than_the_round_trip(
    true_offset, error_us, sent_us, out_us, back_us
):
    device_us = (sent_us + out_us + true_offset) % U32
    before = (true_offset + error_us) % U32
    after = narrowed_offset(before, device_us, sent_us, sent_us + out_us + back_us)
    error_after = (after - true_offset + U32 // 2) % U32 - U32 // 2
    assert abs(error_after) <= min(abs(error_us), max(out_us, back_us))


def test_a_reading_is_dated_back_on_the_hosts_clock_but_never_after_now():
    now_ns = 10_000_000  # 10 ms; offset 5 us: the device shows 10_005
    assert host_ns(9_005, 5, now_ns) == 9_000_000
    assert host_ns(10_500, 5, now_ns) == now_ns
