"""The host's driver greets a device over a real pty, arms, disarms and stops it."""

import time

import numpy as np
import pytest

from firmware_bridge.arm import ChannelLimits, Mode
from firmware_bridge.edgelink import driver
from firmware_bridge.edgelink.codec import HelloAck, encode, schema_hash
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import ArmRefused, NoAnswer, NotArmed, PortError, SchemaMismatch, WatchdogMismatch
from firmware_bridge.transport.serial import SerialTransport
from tests.firmware_bridge.conftest import CHANNELS

U32 = 2**32


def to(*values):
    return np.array(values, np.float32)


def in_s(seconds):
    return time.monotonic_ns() + int(seconds * 1e9)


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


# --- look ---


@pytest.mark.parametrize("mode", [Mode.ARMED, Mode.STOPPED])
def test_looking_at_a_device_leaves_its_mode_and_finds_its_clock(served, armed, mode):
    if mode is Mode.STOPPED:
        armed.stop()
    served.received.clear()
    armed._forget()
    armed.transport.close()
    info = armed.look()
    assert (info.schema_hash, info.channels, info.watchdog_ms) == (0, 2, 0)
    assert info.held_setpoint.tolist() == [0.0, 0.0]
    error_us = (info.clock_offset_us - served.clock_ahead_us + U32 // 2) % U32 - U32 // 2
    assert abs(error_us) <= info.rtt_us
    assert armed.poll().mode == mode
    armed.close()
    assert served.device.mode is mode
    assert len(served.received) == 8 * 9  # PINGs, of 9 bytes, and nothing else


def test_who_only_looked_cannot_arm(served, link):
    link.look()
    with pytest.raises(ArmRefused, match="expected: connect"):
        link.arm()
    with pytest.raises(NotArmed):
        link.send(to(0.0, 0.0), in_s(1))
    assert served.device.mode is Mode.DISARMED


def test_looking_at_a_device_of_other_channels_is_refused(serve):
    other = serve(channels=(*CHANNELS, ChannelLimits("z", "m", -1, 1)))
    with pytest.raises(SchemaMismatch, match=r"expected: 2 channels[\s\S]*got: +3 channels"):
        EdgelinkArm(SerialTransport(other.port, 921_600), CHANNELS).look()


def test_looking_at_a_silent_line_says_what_it_waited_for(served, link, monkeypatch):
    monkeypatch.setattr(driver, "CONNECT_S", 0.15)
    served.mute = 1_000_000
    with pytest.raises(NoAnswer, match="a STATE within"):
        link.look()


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
