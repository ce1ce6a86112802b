"""The short way through an answer and the long one say the same, whatever the bytes are."""

from __future__ import annotations

import random

import pytest

from firmware_bridge.arm import Mode
from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.answers import READS, UsualAnswer
from firmware_bridge.dynamixel.codec import ALERT, Status
from firmware_bridge.dynamixel.setup import servos_of, watchdog_units
from tests.firmware_bridge.dynamixel.arms import ALIKE, JOINTS, SHADOW_OPTIONS, SHADOWED
from tests.firmware_bridge.dynamixel.wire import armed, wired

KINDS = [(kind, fast) for kind in READS for fast in (True, False)]


def answer(arm, wire):
    """What the servos say to the first question."""
    wire.held = b""
    wire.write(arm._questions[0])
    return wire.read()


def heard(arm, wire, pieces, usual):
    """Everything that an arm in the middle of a cycle makes of `pieces`, with `usual` or without."""
    arm._usual, arm.mode = usual, Mode.ARMED
    arm._restarted.clear()
    arm._decoder.rest, arm._decoder.junk, arm.counts.foreign = b"", 0, 0
    readings = []
    for piece in pieces:
        wire.held = piece
        readings += arm._readings()
    rest = arm._decoder.rest, arm._decoder.junk
    return repr(readings), arm.counts.foreign, arm.mode, sorted(arm._restarted), rest


def both_ways(arm, wire, *pieces):
    usual = arm._usual
    assert usual is not None
    short, long = heard(arm, wire, pieces, usual), heard(arm, wire, pieces, None)
    arm._usual = usual
    assert short == long
    return short


def prepared(kind, fast):
    arm, wire = armed(options={"read": kind, "fast": fast})
    data = answer(arm, wire)
    assert len(data) == arm._usual.size
    return arm, wire, data


@pytest.mark.parametrize(("kind", "fast"), KINDS)
def test_the_usual_answer_takes_the_short_way(kind, fast):
    arm, wire, data = prepared(kind, fast)
    usual = arm._usual.readings(data, arm._units)
    assert [reading.joint for reading in usual] == list(range(6))
    assert both_ways(arm, wire, data)[0] == repr(usual)


@pytest.mark.parametrize(("kind", "fast"), KINDS)
def test_no_flipped_bit_passes_and_both_ways_say_the_same(kind, fast):
    arm, wire, data = prepared(kind, fast)
    for bit in range(8 * len(data)):
        spoiled = bytearray(data)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert arm._usual.readings(bytes(spoiled), arm._units) is None
        both_ways(arm, wire, bytes(spoiled))


@pytest.mark.parametrize(("kind", "fast"), KINDS)
def test_pieces_noise_and_repetitions_are_the_same_both_ways(kind, fast):
    arm, wire, data = prepared(kind, fast)
    for at in range(1, len(data)):
        whole = both_ways(arm, wire, data[:at], data[at:])
        assert whole[0] == repr(arm._usual.readings(data, arm._units))
        both_ways(arm, wire, data[:at])
        both_ways(arm, wire, data[at:] + data[:at])
        both_ways(arm, wire, data[:at], data)
    each = 11 + READS[kind].lengths[0]
    both_ways(arm, wire, *(data[at : at + each] for at in range(0, len(data), each)))
    both_ways(arm, wire, data + data)
    both_ways(arm, wire, b"noise" + data)
    both_ways(arm, wire, data + b"noise")


@pytest.mark.parametrize(("kind", "fast"), KINDS)
def test_sound_but_unusual_answers_are_the_same_both_ways(kind, fast):
    """Right CRCs around other ids, orders, errors, guards, temperatures and lengths."""
    arm, wire, data = prepared(kind, fast)
    rng = random.Random(3)
    length = READS[kind].lengths[0]
    (said,) = [[s for u in codec.Decoder().feed(data) for s in codec.statuses(u, length)]]
    assert len(said) == 6
    others = [said[::-1], said[:5], [*said[:5], said[0]], [*said[:5], said[5]._replace(servo=77)]]
    others += [[*said[:5], said[5]._replace(error=error)] for error in (ALERT, 1)]
    for _ in range(60):
        one, place, at = list(said), rng.randrange(6), rng.randrange(length)
        spoiled = bytearray(one[place].data)
        spoiled[at] = rng.choice((0, 1, 0xFD, 0xFF, rng.randrange(256)))
        one[place] = one[place]._replace(data=bytes(spoiled))
        others.append(one)
    for other in others:
        both_ways(arm, wire, on_the_wire(other, fast))


def on_the_wire(said, fast):
    return b"".join(codec.fast_status(said) if fast else (codec.status(*each) for each in said))


def test_a_header_in_the_data_is_unstuffed_the_long_way():
    arm, wire, _ = prepared("motion", False)
    data = b"\x00\x00\x00\xff\xff\xfd\x00\x08\x00\x00"
    stuffed = on_the_wire([Status(i, 0, data) for i in range(1, 7)], False)
    assert len(stuffed) == arm._usual.size + 6
    both_ways(arm, wire, stuffed)
    bare = codec.packet(1, codec.STATUS, bytes(11)).replace(bytes(11), b"\x00\x00\xff\xff\xfd\xfd" + bytes(5))
    bare = bare[:-2] + codec.crc16(bare[:-2]).to_bytes(2, "little")  # as long as the usual one, and a byte too short
    rest = on_the_wire([Status(i, 0, bytes(10)) for i in range(2, 7)], False)
    assert len(bare + rest) == arm._usual.size
    assert arm._usual.readings(bare + rest, arm._units) is None
    both_ways(arm, wire, bare + rest)


def test_joints_of_two_families_keep_their_own_effort_units():
    arm, wire = armed(JOINTS, options={"current_based": "gripper"})
    data = answer(arm, wire)
    usual = arm._usual.readings(data, arm._units)
    assert usual is not None
    assert both_ways(arm, wire, data)[0] == repr(usual)


def test_a_bus_without_watchdog_is_proven_by_its_torque():
    arm, wire = wired(watchdog_s=None)
    arm.connect()
    assert arm._usual.readings(answer(arm, wire), 0) is not None
    arm.arm()
    data = answer(arm, wire)
    assert arm._usual.readings(data, 0) is None
    assert both_ways(arm, wire, data)[0] == repr(arm._usual.readings(data, 1))


def test_shadows_go_the_long_way():
    arm, _ = armed(SHADOWED, SHADOW_OPTIONS)
    assert arm._usual is None


def test_an_expired_watchdog_is_not_usual():
    arm, wire, _ = prepared("full", True)
    wire.device.servos[4].set(models.BUS_WATCHDOG, models.WATCHDOG_EXPIRED)
    data = answer(arm, wire)
    assert arm._usual.readings(data, arm._units) is None
    both_ways(arm, wire, data)


def test_the_size_is_that_of_the_wire():
    """Six servos, ten bytes each: 8 + 6 (4 + 10), and 6 (11 + 10): facts, section 6."""
    from firmware_bridge.dynamixel.options import Options

    servos = servos_of(ALIKE, Options(), watchdog_units(0.1), ())
    assert UsualAnswer(servos, READS["motion"], True).size == 92
    assert UsualAnswer(servos, READS["motion"], False).size == 126
