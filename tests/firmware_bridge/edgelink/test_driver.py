"""The host's driver: its clock arithmetic, and its dealings with a device over a real pty."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import ChannelLimits, Fault, Mode
from firmware_bridge.edgelink import driver
from firmware_bridge.edgelink.codec import HelloAck, State, Verdict, command_wire_bytes, encode, schema_hash
from firmware_bridge.edgelink.driver import EdgelinkArm, clock_offset, host_ns, narrowed_offset
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    NoAnswer,
    NotArmed,
    PortError,
    PortGone,
    SchemaMismatch,
    WatchdogMismatch,
)
from firmware_bridge.transport.serial import SerialTransport

CHANNELS = (ChannelLimits("x", "m", -0.5, 0.5), ChannelLimits("gripper", "1", -1.0, 1.0))
U32 = 2**32


def to(*values):
    return np.array(values, np.float32)


def in_s(seconds):
    return time.monotonic_ns() + int(seconds * 1e9)


def poll_for(arm, seconds=2.0):
    """The next state that arrives."""
    deadline_ns = in_s(seconds)
    while time.monotonic_ns() < deadline_ns:
        state = arm.poll()
        if state is not None:
            return state
        time.sleep(0.001)
    raise AssertionError("no state arrived")


@pytest.fixture
def served(serve):
    return serve()


@pytest.fixture
def link(served):
    arm = EdgelinkArm(SerialTransport(served.port, 921_600), CHANNELS)
    yield arm
    arm.close()


@pytest.fixture
def armed(link):
    link.connect()
    link.arm()
    assert link.poll().mode == Mode.ARMED  # the answer to arm() is a state too
    return link


# --- clock arithmetic, pure ---


def test_the_offset_takes_the_device_to_have_stamped_half_way():
    assert clock_offset(device_us=1_000, sent_us=400, received_us=600) == 500
    assert clock_offset(device_us=100, sent_us=400, received_us=600) == U32 - 400


@pytest.mark.parametrize(
    ("device_us", "narrowed"),
    [
        (1_050, 1_000),  # inside: at 50 on the host, between 20 and 80
        (1_010, 990),  # at 10: before the request left; 20 is the earliest
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


# --- connect ---


def test_connect_greets_checks_and_reads_back_the_watchdog(served, link):
    info = link.connect()
    assert info.port == served.port
    assert (info.schema_hash, info.channels, info.watchdog_ms) == (schema_hash(CHANNELS), 2, 10_000)
    assert info.held_setpoint.tolist() == [0.0, 0.0]
    error_us = (info.clock_offset_us - served.clock_ahead_us + U32 // 2) % U32 - U32 // 2
    assert abs(error_us) <= info.rtt_us
    assert served.device.mode is Mode.DISARMED


def test_connect_refuses_a_device_of_another_schema(serve):
    other = serve(channels=(ChannelLimits("x", "deg", -90, 90), CHANNELS[1]))
    arm = EdgelinkArm(SerialTransport(other.port, 921_600), CHANNELS)
    with pytest.raises(SchemaMismatch, match=r"firmware schema 0x5299ca29, host schema 0x06e25c48: reflash"):
        arm.connect()


def test_connect_refuses_a_device_with_another_watchdog(served):
    arm = EdgelinkArm(SerialTransport(served.port, 921_600), CHANNELS, expected_watchdog_s=0.1)
    with pytest.raises(WatchdogMismatch, match=r"expected: 100 ms\s+got: +10000 ms"):
        arm.connect()


def test_connect_accepts_the_watchdog_of_the_profile(served):
    arm = EdgelinkArm(SerialTransport(served.port, 921_600), CHANNELS, expected_watchdog_s=10.0)
    assert arm.connect().watchdog_ms == 10_000
    arm.close()


def test_a_silent_device_is_called_silent_and_the_port_is_free_again(served, link, monkeypatch):
    monkeypatch.setattr(driver, "CONNECT_S", 0.15)
    served.mute = 1_000_000
    with pytest.raises(NoAnswer, match=r"no edgelink device answers[\s\S]*got: +silence"):
        link.connect()
    served.mute = 0
    link.connect()


def test_a_line_that_spoils_every_frame_is_told_from_silence(served, link, monkeypatch):
    monkeypatch.setattr(driver, "CONNECT_S", 0.15)
    served.device.feed = lambda data, now_us: b"\0\x05\x11\0" if data else b""
    with pytest.raises(NoAnswer, match="spoiled frames"):
        link.connect()


def test_an_answer_to_an_earlier_hello_does_not_set_the_clock(served, link):
    real = served.device.feed
    served.device.feed = lambda data, now_us: encode(HelloAck(0, 0, 0, 0, ())) + real(data, now_us)
    link._seq = 10  # so that 0 is none of this connection's numbers
    link._forget = lambda: None
    assert link.connect().channels == 2


def test_a_missing_port_is_one_clear_error():
    with pytest.raises(PortError, match="cannot open"):
        EdgelinkArm(SerialTransport("/dev/ttyNOTHERE", 921_600), CHANNELS).connect()


# --- modes ---


def test_arm_and_disarm_are_confirmed_by_the_device(served, link):
    link.connect()
    link.arm()
    assert (link.mode, served.device.mode) == (Mode.ARMED, Mode.ARMED)
    link.disarm()
    assert (link.mode, served.device.mode) == (Mode.DISARMED, Mode.DISARMED)


def test_one_lost_answer_does_not_keep_the_arm_from_arming(served, link):
    link.connect()
    served.mute = 1
    link.arm()
    assert link.mode is Mode.ARMED


@pytest.mark.parametrize("ask", ["arm", "disarm"])
def test_a_device_that_never_confirms_is_an_error_and_leaves_the_host_unarmed(served, link, ask):
    link.connect()
    served.mute = 1_000_000
    with pytest.raises(ArmRefused, match="no answer"):
        getattr(link, ask)()
    assert link.mode is Mode.STOPPED


@pytest.mark.parametrize(("ask", "real"), [("arm", Mode.DISARMED), ("disarm", Mode.ARMED)])
def test_a_device_that_stays_in_another_mode_is_quoted_in_words(served, link, ask, real):
    link.connect()
    served.device._obey = lambda message, now_us: None
    served.device._check_watchdog = lambda now_us: None
    served.device.mode = real
    with pytest.raises(ArmRefused, match=r"mode \d, faults 0x0000, verdict 0: accepted"):
        getattr(link, ask)()


def test_an_arm_request_that_is_refused_says_why(served, link):
    link.connect()
    served.clock_ahead_us += 10_000_000  # the device's clock jumped: everything has expired
    with pytest.raises(ArmRefused, match="after its expiry"):
        link.arm()


def test_stop_is_confirmed_and_only_arming_clears_it(served, armed):
    assert armed.stop() is True
    assert served.device.mode is Mode.STOPPED
    with pytest.raises(NotArmed, match="mode STOPPED"):
        armed.send(to(0, 0), in_s(1))
    armed.arm()
    assert armed.send(to(0, 0), in_s(1)) > 0


def test_a_stop_that_nobody_confirms_says_so(served, armed):
    served.mute = 1_000_000
    assert armed.stop() is False


def test_close_stops_an_armed_arm_and_may_be_called_again(served, armed):
    armed.close()
    armed.close()
    assert served.device.mode is Mode.STOPPED


def test_close_of_a_dead_port_is_quiet(served, armed):
    served.unplug()
    armed.close()


# --- commands and states ---


def test_a_command_moves_the_plant_and_its_reply_is_the_state(served, armed):
    before_ns = time.monotonic_ns()
    written_ns = armed.send(to(0.25, -1.0), in_s(1))
    assert before_ns <= written_ns <= time.monotonic_ns()
    state = poll_for(armed)
    assert served.device.held.tolist() == [0.25, -1.0]
    assert (state.mode, state.faults, state.verdict, state.velocity) == (Mode.ARMED, Fault.NONE, 0, None)
    assert state.position.dtype == np.float32
    assert before_ns <= state.stamp_ns <= time.monotonic_ns()
    assert armed.counts.sent == 1


def test_an_expired_command_is_never_written_but_counted(served, armed):
    served.received.clear()
    assert armed.send(to(0.1, 0), time.monotonic_ns()) == 0
    armed.request_state()
    poll_for(armed)
    assert (armed.counts.late, armed.counts.sent) == (1, 0)
    assert len(served.received) < command_wire_bytes(2)  # the request for a state, nothing else
    assert served.device.counts.accepted == 0


def test_the_expiry_is_checked_after_everything_else_and_before_the_write(armed, monkeypatch):
    expiry_ns = in_s(60)
    real = driver.codec.encode

    def slow_encode(*arguments):
        monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic_ns=lambda: expiry_ns))
        return real(*arguments)

    monkeypatch.setattr(driver.codec, "encode", slow_encode)
    written = []
    monkeypatch.setattr(armed.transport, "write", written.append)
    assert armed.send(to(0, 0), expiry_ns) == 0
    assert written == []
    armed.mode = Mode.DISARMED  # nothing to stop at the end


def test_a_write_that_ends_after_the_expiry_is_counted_as_overtaken(armed, monkeypatch):
    now_ns = time.monotonic_ns()
    times = iter([now_ns, now_ns + 2_000])
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic_ns=lambda: next(times)))
    assert armed.send(to(0, 0), now_ns + 1_000) == now_ns + 2_000
    assert armed.counts.overtaken == 1
    monkeypatch.undo()


@pytest.mark.parametrize(
    "setpoint",
    [
        to(0.1),
        to(0.1, 0.0, 0.0),
        to(0.1, 0.0).reshape(1, 2),
        np.array([0.1, 0.0]),
        [0.1, 0.0],
        to(np.nan, 0.0),
        to(0.0, np.inf),
        to(0.51, 0.0),
        to(0.0, -1.001),
    ],
    ids=str,
)
def test_a_bad_set_point_is_refused_before_it_is_encoded(served, armed, monkeypatch, setpoint):
    monkeypatch.setattr(driver.codec, "encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(BadSetpoint, match="expected:"):
        armed.send(setpoint, in_s(1))
    monkeypatch.undo()
    assert served.device.counts.accepted == 0


def test_a_set_point_for_an_arm_that_is_not_armed_is_refused(link):
    link.connect()
    with pytest.raises(NotArmed, match=r"call arm\(\) first"):
        link.send(to(0, 0), in_s(1))


def test_asking_for_a_state_commands_nothing(served, link):
    link.connect()
    link.request_state()
    assert poll_for(link).mode == Mode.DISARMED
    assert link.poll() is None


def test_a_refusal_by_the_device_reaches_the_host(served, armed):
    served.clock_ahead_us += 500_000
    armed.send(to(0.1, 0), in_s(0.1))
    state = poll_for(armed)
    assert (state.verdict, state.rejected) == (Verdict.EXPIRED, 1)
    assert armed.counts.refusals == {Verdict.EXPIRED: 1}


def test_a_clock_that_drifts_is_followed(served, armed):
    for _ in range(20):
        served.clock_ahead_us += 20_000  # far beyond any crystal
        armed.send(to(0.1, 0), in_s(0.5))
        state = poll_for(armed)
    assert state.verdict == Verdict.ACCEPTED
    assert served.device.counts.accepted == 20


def test_of_several_replies_the_newest_is_handed_out_and_older_ones_are_counted(served, link):
    link.connect()
    base_us = (time.monotonic_ns() // 1000 + served.clock_ahead_us) % U32
    replies = [State(seq, base_us + seq, 0, 0, 0, 0, (seq / 10, 0.0), (0.0, 0.0)) for seq in (1, 3, 2)]
    served.speak(b"".join(map(encode, replies)))
    states = [poll_for(link)]
    while (more := link.poll()) is not None:
        states.append(more)
    assert states[-1].last_seq == 3
    assert link.counts.stale_replies == 1


def test_a_state_brings_the_effort_and_nan_where_none_is_measured(served, link):
    link.connect()
    served.speak(encode(State(1, 1, 0, 0, 0, 0, (0.0, 0.0), (-12.5, float("nan")))))
    effort = poll_for(link).effort
    assert effort.dtype == np.float32
    assert effort[0] == -12.5
    assert np.isnan(effort[1])


@pytest.mark.parametrize("position", [(0.0,), (0.0, 0.0, 0.0), (float("nan"), 0.0), (0.0, float("inf"))])
def test_a_state_that_cannot_be_true_is_not_handed_out(served, link, position):
    link.connect()
    served.speak(encode(State(1, 1, 0, 0, 0, 0, position, (0.0,) * len(position))))
    link.request_state()
    assert poll_for(link).position.tolist() == [0.0, 0.0]
    assert link.counts.bad_replies == 1


def test_what_is_no_state_is_not_handed_out(served, link):
    link.connect()
    served.speak(encode(HelloAck(1, 0, 0, 0, ())))
    assert not link.transport.wait_readable(in_s(2)) or link.poll() is None


def test_a_device_that_babbles_does_not_hold_the_loop(link, monkeypatch):
    link.connect()
    monkeypatch.setattr(link.transport, "read", lambda: b"\0" * 4096)
    assert link.poll() is None


def test_noise_on_the_line_costs_no_state(served, link):
    link.connect()
    served.speak(b"\x07garbage\0more\0\0")
    link.request_state()
    assert poll_for(link).verdict == Verdict.ACCEPTED
    assert link._decoder.counts.spoiled == 2


def test_a_device_that_goes_away_is_one_clear_error(served, armed):
    served.unplug()
    with pytest.raises(PortGone, match="died"):
        armed.poll()
    with pytest.raises(PortGone, match="died"):
        armed.send(to(0, 0), in_s(1))
