"""A decoder that knows how many channels its states have reads the usual one in one go, and nothing else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.edgelink.codec import Decoder, Ping, State, encode
from firmware_bridge.edgelink.frames import WholeState, frame

# As in test_codec.py, whose literal it is: two channels, position (0.25, -0.5), effort (1.5, -20.0).
STATE = bytes.fromhex("00 02 84 02 03 04 bb 42 0f 02 01 01 01 02 07 01 01 03 80 3e 01 01 02 bf 02 3e 04 cd 64 9c 00")
BODY = bytes.fromhex("84 00 03 00 bb 42 0f 00 01 00 00 00 07 00 00 00 80 3e 00 00 00 bf 00 3e 00 cd")  # without its CRC
NEXT = State(3, 1_000_123, 1, 0, 0, 7, (0.25, -0.5), (1.5, -20.0))


def both(*pieces):
    """[(messages, counts, what is kept)] of the decoder that knows the channels and of the one that does not."""
    read = []
    for decoder in (Decoder(2), Decoder()):
        messages = [message for piece in pieces for message in decoder.feed(piece)]
        read.append((messages, decoder.counts, decoder._partial, decoder._skipping))
    return read


def test_the_usual_state_is_read_in_one_go():
    assert WholeState(2).read(STATE) == NEXT
    assert both(STATE)[0][0] == both(STATE)[1][0] == [NEXT]


def test_no_flipped_bit_is_read_in_one_go_and_both_ways_say_the_same():
    for bit in range(len(STATE) * 8):
        spoiled = bytearray(STATE)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert WholeState(2).read(bytes(spoiled)) is None
        fast, slow = both(bytes(spoiled), STATE)
        assert fast == slow
        assert fast[0][-1] == NEXT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        STATE[1:],
        STATE[:-1],
        STATE + STATE,
        b"\0" + STATE,
        encode(Ping(1)),
        encode(State(3, 5, 1, 0, 0, 0, (0.5,), (0.5,))),  # one channel
        encode(State(3, 5, 1, 0, 0, 0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
        frame(b"\x85" + BODY[1:]),  # no such type, of a state's length
        frame(BODY[:1] + b"\x01" + BODY[2:]),  # a flag
        frame(BODY[:8] + b"\x09" + BODY[9:]),  # mode 9
        frame(b"\x04" + BODY[1:]),  # a COMMAND of that length
    ],
)
def test_everything_else_is_left_to_the_general_way(data):
    assert WholeState(2).read(data) is None
    assert both(data)[0] == both(data)[1]


@given(st.lists(st.sampled_from([STATE, STATE[:9], STATE[9:], encode(Ping(1)), b"\0", b"\x01" * 250]) | st.binary()))
def test_any_bytes_in_any_pieces_are_read_alike_both_ways(pieces):
    fast, slow = both(*pieces)
    assert fast == slow
