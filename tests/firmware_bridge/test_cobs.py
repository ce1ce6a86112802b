"""Byte stuffing: the published examples, any bytes there and back, any bytes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.cobs import LONGEST, cobs_decode, cobs_encode


@pytest.mark.parametrize(
    ("body", "stuffed"),
    [  # Cheshire and Baker 1999, and the examples of its encyclopedia article
        ("00", "01 01"),
        ("00 00", "01 01 01"),
        ("11 22 00 33", "03 11 22 02 33"),
        ("11 22 33 44", "05 11 22 33 44"),
        ("11 00 00 00", "02 11 01 01 01"),
    ],
)
def test_known_bodies_become_known_bytes(body, stuffed):
    assert cobs_encode(bytes.fromhex(body)) == bytes.fromhex(stuffed)
    assert cobs_decode(bytes.fromhex(stuffed)) == bytes.fromhex(body)


@given(st.binary(max_size=LONGEST))
def test_any_body_survives_and_its_stuffing_holds_no_zero(body):
    stuffed = cobs_encode(body)
    assert 0 not in stuffed
    assert len(stuffed) == len(body) + 1
    assert cobs_decode(stuffed) == body


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_a_body_or_to_none(encoded):
    body = cobs_decode(encoded)
    assert body is None or len(body) <= len(encoded)


def test_a_code_that_points_past_the_end_is_no_frame():
    assert cobs_decode(bytes.fromhex("05 11")) is None


def test_a_zero_inside_is_no_frame():
    assert cobs_decode(bytes.fromhex("02 11 00 11")) is None


def test_a_body_that_needs_the_code_ff_is_refused():
    with pytest.raises(ValueError, match="253"):
        cobs_encode(bytes(LONGEST + 1))
