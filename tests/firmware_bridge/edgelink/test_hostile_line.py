"""A line that truncates, flips, duplicates, reorders and delays: no forbidden set-point reaches the plant."""

import math
import random
import struct
from binascii import crc_hqx

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.arm import ChannelLimits, Mode
from firmware_bridge.cobs import cobs_encode
from firmware_bridge.edgelink.codec import ArmRequest, Command, Hello, Limits, encode, schema_hash
from firmware_bridge.edgelink.controller import IntegratorPlant, VirtualDevice

CHANNELS = (ChannelLimits("x", "m", -0.5, 0.5), ChannelLimits("gripper", "1", -1.0, 1.0))
LIMITS = Limits(CHANNELS)
PERIOD_US, TTL_US = 12_500, 25_000


class WatchedPlant(IntegratorPlant):
    """Keeps every set-point it was given."""

    def __init__(self):
        super().__init__(np.zeros(2, np.float32))
        self.seen = []

    def step(self, setpoint):
        self.seen.append(tuple(setpoint.tolist()))
        return super().step(setpoint)


def armed_device():
    plant = WatchedPlant()
    device = VirtualDevice(plant, CHANNELS, np.zeros(2, np.float32))
    device.feed(encode(Hello(0, schema_hash(CHANNELS))) + encode(ArmRequest(1, TTL_US)), 0)
    assert device.mode is Mode.ARMED
    return device, plant


def raw_command(seq, expiry_us, floats):
    """A frame with a right CRC around any floats: a host gone mad."""
    body = struct.pack(f"<BBHI{len(floats)}f", 0x04, 0, seq & 0xFFFF, expiry_us & 0xFFFF_FFFF, *floats)
    return b"\0" + cobs_encode(body + struct.pack("<H", crc_hqx(body, 0xFFFF))) + b"\0"


def in_limits(setpoint):
    x, gripper = setpoint
    return math.isfinite(x) and math.isfinite(gripper) and -0.5 <= x <= 0.5 and -1 <= gripper <= 1


def spoil(line, wires, rng):
    """One tick's bytes as a bad line delivers them."""
    fate = rng.choice(["whole", "whole", "truncate", "flip", "twice", "old", "swap", "lose", "noise"])
    wire = bytearray(wires[-1])
    if fate == "truncate":
        del wire[rng.randrange(len(wire)) :]
    elif fate == "flip":
        for _ in range(rng.randint(1, 8)):
            wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
    elif fate == "twice":
        wire *= 2
    elif fate == "old":
        wire = bytearray(rng.choice(wires))
    elif fate == "swap" and len(wires) > 1:
        wire += wires[-2]
    elif fate == "lose":
        wire.clear()
    elif fate == "noise":
        wire[:0] = rng.randbytes(rng.randint(1, 40))
    line.append(fate)
    return bytes(wire)


def test_on_a_bad_line_every_set_point_the_plant_sees_was_sent_and_not_stale():
    rng, fates = random.Random(7), []
    device, plant = armed_device()
    wires, sent_at = [], {(0.0, 0.0): -1}
    for tick in range(4_000):
        now_us = (tick + 1) * PERIOD_US
        setpoint = (
            struct.unpack("<f", struct.pack("<f", math.sin(tick * 0.01) / 2))[0],
            (tick % 200) / 128 - 0.75,
        )
        sent_at[setpoint] = tick
        wires.append(encode(Command(tick + 2 & 0xFFFF, now_us + TTL_US, setpoint), LIMITS))
        before = device.counts.accepted
        device.feed(spoil(fates, wires, rng), now_us)
        if device.mode is not Mode.ARMED:  # a run of lost frames tripped the watchdog, as it should
            device.feed(encode(ArmRequest(tick + 2 & 0xFFFF, now_us + TTL_US)), now_us)
        device.tick(now_us)
        if device.counts.accepted > before:
            assert tick - sent_at[plant.seen[-1]] <= TTL_US // PERIOD_US  # never older than its expiry
    assert len(plant.seen) > 3_000
    assert set(plant.seen) <= set(sent_at)
    assert all(map(in_limits, plant.seen))
    assert set(fates) == {"whole", "truncate", "flip", "twice", "old", "swap", "lose", "noise"}
    refused = device.counts.refused
    assert refused["old_sequence"] > 100
    assert device.counts_dict()["decoder"]["bad_crc"] > 100


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.integers(-50_000, 2_000_000),
            st.lists(st.floats(width=32), min_size=0, max_size=4),
        ),
        max_size=20,
    )
)
def test_a_host_gone_mad_moves_the_plant_only_within_limits(frames):
    device, plant = armed_device()
    for tick, (seq, ttl_us, floats) in enumerate(frames):
        now_us = tick * PERIOD_US
        device.feed(raw_command(seq, now_us + ttl_us, floats), now_us)
        device.tick(now_us)
    assert all(map(in_limits, plant.seen))


@given(st.binary(max_size=600), st.integers(0, 0xFFFF_FFFF))
def test_any_bytes_at_any_time_leave_the_device_sound(noise, now_us):
    device, plant = armed_device()
    device.feed(noise, now_us)
    device.tick(now_us)
    assert all(map(in_limits, plant.seen))
    assert in_limits(tuple(device.held.tolist()))


def test_frames_stuck_in_a_buffer_are_refused_as_expired_when_they_come_out():
    device, plant = armed_device()
    stuck = b"".join(encode(Command(2 + i, (i + 1) * 1_000 + TTL_US, (0.1, 0.0)), LIMITS) for i in range(20))
    device.feed(stuck, 90_000)
    assert device.counts.refused["expired"] == 20
    assert not device.tick(90_000)
    assert plant.seen == []


def test_frames_in_the_wrong_order_are_taken_once_each_newest_last():
    device, _ = armed_device()
    wires = [encode(Command(2 + i, TTL_US, (i / 8, 0.0)), LIMITS) for i in range(4)]
    device.feed(wires[0] + wires[2] + wires[1] + wires[3] + wires[2], 0)
    assert device.held.tolist() == [0.375, 0.0]
    assert device.counts.accepted == 3
    assert device.counts.refused["old_sequence"] == 2
