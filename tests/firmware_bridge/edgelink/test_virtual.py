"""The device, without a line: what it takes, what it refuses and counts, when it stops."""

import struct
from binascii import crc_hqx

import numpy as np
import pytest

from firmware_bridge.arm import ChannelLimits, Fault, Mode
from firmware_bridge.cobs import cobs_encode
from firmware_bridge.edgelink.codec import (
    ArmRequest,
    Command,
    Decoder,
    Disarm,
    Hello,
    HelloAck,
    Limits,
    Ping,
    State,
    Stop,
    Verdict,
    encode,
    schema_hash,
)
from firmware_bridge.edgelink.controller import MAX_AHEAD_US, WATCHDOG_US, IntegratorPlant, VirtualDevice

CHANNELS = (ChannelLimits("x", "m", -0.5, 0.5), ChannelLimits("gripper", "1", -1.0, 1.0))
LIMITS = Limits(CHANNELS)
WIDE = Limits([ChannelLimits(c.name, c.unit, -1e30, 1e30) for c in CHANNELS])  # a host that checks nothing
TTL_US = 12_500


class Bench:
    """One device, its plant and a clock that the test turns."""

    def __init__(self, now_us=0):
        self.steps = []
        self.plant = IntegratorPlant(np.zeros(2, np.float32), share=1.0)
        step = self.plant.step
        self.plant.step = lambda setpoint: (self.steps.append(setpoint.tolist()), step(setpoint))[1]
        self.device = VirtualDevice(self.plant, CHANNELS, np.array([0.0, -1.0], np.float32))
        self.now_us, self.seq = now_us, 0

    def ask(self, kind, *fields, seq=None, **options):
        """Send one message, return the one answer."""
        self.seq = self.seq + 1 if seq is None else seq
        return self.raw(encode(kind(self.seq & 0xFFFF, *fields), options.get("limits", LIMITS)))

    def raw(self, wire):
        answers = Decoder().feed(self.device.feed(wire, self.now_us))
        assert len(answers) <= 1
        return answers[0] if answers else None

    def hello(self):
        return self.ask(Hello, schema_hash(CHANNELS))

    def arm(self):
        return self.ask(ArmRequest, self.now_us + TTL_US)

    def command(self, *setpoint, ttl_us=TTL_US, **options):
        return self.ask(Command, self.now_us + ttl_us, setpoint, **options)

    def armed(self):
        self.hello()
        assert self.arm().mode == Mode.ARMED
        return self


@pytest.fixture
def bench():
    return Bench()


def test_it_answers_hello_with_schema_clock_watchdog_and_what_it_holds(bench):
    bench.now_us = 123_456
    assert bench.hello() == HelloAck(1, schema_hash(CHANNELS), 123_456, 100, (0.0, -1.0))


def test_it_starts_disarmed_and_moves_nothing(bench):
    bench.hello()
    assert bench.ask(Ping).mode == Mode.DISARMED
    assert bench.command(0.1, 0.0).verdict == Verdict.NOT_ARMED
    assert bench.device.tick(bench.now_us) is False
    assert bench.steps == []


def test_an_ungreeted_device_takes_nothing_but_ping_and_stop(bench):
    assert bench.arm().verdict == Verdict.NO_HELLO
    assert bench.command(0.1, 0.0).verdict == Verdict.NO_HELLO
    assert bench.ask(Ping).verdict == Verdict.ACCEPTED
    assert bench.ask(Stop).mode == Mode.DISARMED  # nothing to stop


def test_a_hello_of_another_schema_is_answered_but_opens_nothing(bench):
    assert bench.ask(Hello, 0x0BAD).schema == schema_hash(CHANNELS)
    assert bench.arm().verdict == Verdict.NO_HELLO


def test_an_armed_device_follows_an_accepted_command(bench):
    bench.armed()
    assert bench.device.tick(bench.now_us) is False  # armed, but not commanded yet
    reply = bench.command(0.25, 1.0)
    assert (reply.verdict, reply.mode, reply.faults) == (Verdict.ACCEPTED, Mode.ARMED, Fault.NONE)
    assert bench.device.tick(bench.now_us) is True
    assert bench.steps == [[0.25, 1.0]]
    assert bench.ask(Ping).position == (0.25, 1.0)


def test_the_reply_carries_the_sequence_and_the_device_clock(bench):
    bench.armed().now_us += 77
    assert bench.command(0.0, 0.0, seq=900) == State(900, 77, Mode.ARMED, 0, 0, 0, (0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize(
    ("setpoint", "verdict"),
    [
        ((0.51, 0.0), Verdict.OUT_OF_LIMIT),
        ((0.0, -1.5), Verdict.OUT_OF_LIMIT),
        ((1e20, 0.0), Verdict.OUT_OF_LIMIT),
    ],
)
def test_out_of_limit_is_refused_by_the_devices_own_limits(bench, setpoint, verdict):
    assert bench.armed().command(*setpoint, limits=WIDE).verdict == verdict
    assert bench.device.held.tolist() == [0.0, -1.0]


@pytest.mark.parametrize(
    ("floats", "verdict"),
    [
        ((float("nan"), 0.0), Verdict.NOT_FINITE),
        ((0.0, float("-inf")), Verdict.NOT_FINITE),
        ((0.0,), Verdict.WRONG_COUNT),
        ((0.0, 0.0, 0.0), Verdict.WRONG_COUNT),
    ],
)
def test_what_no_codec_would_encode_is_refused_all_the_same(bench, floats, verdict):
    bench.armed()
    body = struct.pack(f"<BBHI{len(floats)}f", 0x04, 0, 99, TTL_US, *floats)
    reply = bench.raw(b"\0" + cobs_encode(body + struct.pack("<H", crc_hqx(body, 0xFFFF))) + b"\0")
    assert reply.verdict == verdict
    assert bench.device.counts.refused[verdict.name.lower()] == 1
    assert bench.device.held.tolist() == [0.0, -1.0]


def test_a_command_at_its_expiry_is_refused_and_one_microsecond_before_is_taken(bench):
    bench.armed()
    assert bench.command(0.1, 0.0, ttl_us=0).verdict == Verdict.EXPIRED
    assert bench.command(0.1, 0.0, ttl_us=1).verdict == Verdict.ACCEPTED


def test_an_expiry_further_ahead_than_any_honest_one_is_refused(bench):
    bench.armed()
    assert bench.command(0.1, 0.0, ttl_us=MAX_AHEAD_US + 1).verdict == Verdict.TOO_FAR_AHEAD
    assert bench.command(0.1, 0.0, ttl_us=MAX_AHEAD_US).verdict == Verdict.ACCEPTED


@pytest.mark.parametrize("seq", [3, 2, 1, 0, 0xFFFF])
def test_a_duplicate_or_older_sequence_is_refused(bench, seq):
    bench.armed().command(0.1, 0.0)
    assert bench.seq == 3
    assert bench.command(0.2, 0.0, seq=seq).verdict == Verdict.OLD_SEQUENCE
    assert bench.device.held[0] == np.float32(0.1)


def test_sequence_and_clock_go_on_across_their_wraps():
    bench = Bench(now_us=0xFFFF_FFFF - 5_000)
    bench.seq = 0xFFFD
    bench.armed()
    for _ in range(4):
        assert bench.command(0.1, 0.0).verdict == Verdict.ACCEPTED
        bench.now_us += 5_000
    assert bench.ask(Ping).device_us == 15_000 - 1


def test_a_replayed_arm_request_does_not_arm(bench):
    bench.hello()
    request = encode(ArmRequest(2, TTL_US))
    bench.raw(request)
    bench.ask(Stop, seq=3)
    assert bench.raw(request).verdict == Verdict.OLD_SEQUENCE
    bench.now_us = TTL_US
    assert bench.ask(ArmRequest, TTL_US).verdict == Verdict.EXPIRED
    assert bench.device.mode is Mode.STOPPED


def test_silence_latches_a_stop_that_holds_until_it_is_armed_again(bench):
    bench.armed().command(0.3, 0.0)
    bench.now_us += WATCHDOG_US
    bench.device.tick(bench.now_us)
    assert bench.device.mode is Mode.ARMED
    bench.now_us += 1
    assert bench.device.tick(bench.now_us) is True  # held, not limp
    assert (bench.device.mode, bench.device.faults) == (Mode.STOPPED, Fault.WATCHDOG)  # nobody had to ask
    assert bench.steps[-1] == [pytest.approx(0.3), 0.0]
    late = bench.command(0.4, 0.0)
    assert (late.verdict, late.mode, late.faults) == (Verdict.NOT_ARMED, Mode.STOPPED, Fault.WATCHDOG)
    assert bench.device.counts.watchdog_trips == 1
    again = bench.arm()
    assert (again.mode, again.faults) == (Mode.ARMED, Fault.NONE)
    assert bench.device.tick(bench.now_us) is False  # until a command of this arming


def test_pings_and_refused_commands_do_not_feed_the_watchdog(bench):
    bench.armed()
    for _ in range(11):
        bench.now_us += 10_000
        bench.ask(Ping)
        reply = bench.command(0.9, 0.0, limits=WIDE)
    assert reply.faults == Fault.WATCHDOG


def test_accepted_commands_feed_the_watchdog(bench):
    bench.armed()
    for _ in range(11):
        bench.now_us += 10_000
        reply = bench.command(0.1, 0.0)
    assert reply.mode == Mode.ARMED


def test_stop_latches_whatever_its_sequence_number(bench):
    bench.armed().command(0.1, 0.0)
    reply = bench.ask(Stop, seq=0)
    assert (reply.mode, reply.faults, reply.verdict) == (Mode.STOPPED, Fault.STOP, Verdict.ACCEPTED)
    assert bench.command(0.2, 0.0, seq=50).verdict == Verdict.NOT_ARMED


def test_disarm_and_a_new_host_both_disarm(bench):
    assert bench.armed().ask(Disarm).mode == Mode.DISARMED
    assert bench.arm().mode == Mode.ARMED
    bench.hello()
    assert bench.device.mode is Mode.DISARMED


def test_commands_are_counted_one_by_one_from_the_arming_on(bench):
    bench.armed()
    for done in range(3):
        assert bench.device.commands_since_arming == done
        bench.command(0.1, 0.0)
    bench.ask(Stop)
    bench.arm()
    assert bench.device.commands_since_arming == 0


def test_arming_twice_keeps_it_moving(bench):
    bench.armed().command(0.1, 0.0)
    bench.arm()  # the first answer was lost, say
    assert bench.device.tick(bench.now_us) is True


def test_its_own_kind_of_message_is_not_answered(bench):
    assert bench.raw(encode(State(1, 0, 0, 0, 0, 0, (0.0, 0.0), (0.0, 0.0)))) is None


def test_refusals_are_counted_by_reason_and_told_to_the_host(bench):
    bench.armed()
    bench.command(0.9, 0.0, limits=WIDE)
    bench.command(0.1, 0.0, ttl_us=-1)
    assert bench.ask(Ping).rejected == 2
    counts = bench.device.counts_dict()
    assert (counts["accepted"], counts["refused"]["out_of_limit"], counts["refused"]["expired"]) == (0, 1, 1)
    assert counts["decoder"]["frames"] == 5


def test_the_integrator_goes_its_share_of_the_way():
    plant = IntegratorPlant(np.array([0.0], np.float32), share=0.5)
    assert plant.step(np.array([1.0], np.float32)).tolist() == [0.5]
    assert plant.step(np.array([1.0], np.float32)).tolist() == [0.75]


def test_the_integrator_pulls_like_a_spring_and_stops_at_a_wall():
    plant = IntegratorPlant(
        np.zeros(2, np.float32), share=0.5, stiffness=100.0, wall=np.array([0.6, np.inf], np.float32)
    )
    assert plant.effort().tolist() == [0.0, 0.0]
    assert plant.step(np.array([1.0, 1.0], np.float32)).tolist() == [0.5, 0.5]
    assert plant.effort().tolist() == [50.0, 50.0]
    assert plant.step(np.array([1.0, 1.0], np.float32)).tolist() == [np.float32(0.6), 0.75]
    assert plant.effort().tolist() == pytest.approx([40.0, 25.0])


def test_the_state_reports_the_plants_effort(bench):
    bench.armed()
    bench.command(0.25, 1.0)
    bench.plant._share = np.float32(0.5)
    bench.device.tick(bench.now_us)
    assert bench.ask(Ping).effort == (12.5, 50.0)  # 100 N/m times what is left
