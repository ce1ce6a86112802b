"""`EdgelinkArm` against the firmware itself: compiled for this computer, and for a Cortex-M4 in QEMU."""

import time

import numpy as np
import pytest

from firmware_bridge.arm import ChannelLimits, Fault, Mode
from firmware_bridge.edgelink.codec import Command, Limits, Ping, Verdict, encode
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import SchemaMismatch, WatchdogMismatch
from firmware_bridge.transport.serial import SerialTransport
from tests.firmware_bridge.firmware.boards import ARM, build, missing, running

LATE_CLOCK_US = 2**32 - 1_500_000  # wraps 1.5 s after the start
START = np.array([0.0, 0.7, 0.275, 0.0], np.float32)


@pytest.fixture(scope="module", params=["host", "qemu"])
def board(request, tmp_path_factory):
    """(name, folder) of a built board; skipped with what to install."""
    if why := missing(request.param):
        pytest.skip(why)
    folder = tmp_path_factory.mktemp(request.param)
    build(folder, "host" if request.param == "host" else "cortex-m4")
    return request.param, folder


@pytest.fixture
def started(board):
    with running(*board) as running_board:
        yield running_board


@pytest.fixture
def link(started):
    arm = EdgelinkArm(SerialTransport(started.port, 921_600), ARM.channels, ARM.watchdog_s)
    yield arm
    arm.close()


@pytest.fixture
def armed(link):
    link.connect()
    link.arm()
    link.poll()
    return link


def in_s(seconds):
    return time.monotonic_ns() + int(seconds * 1e9)


def next_state(arm, seconds=2.0):
    deadline_ns = in_s(seconds)
    while time.monotonic_ns() < deadline_ns:
        state = arm.poll()
        if state is not None:
            return state
        arm.wait_readable(min(deadline_ns, in_s(0.01)))
    raise AssertionError("no state arrived")


def test_looking_at_a_board_leaves_it_holding(armed, started):
    armed.stop()
    armed.close()
    watching = EdgelinkArm(SerialTransport(started.port, 921_600), ARM.channels, ARM.watchdog_s)
    assert watching.look().channels == len(ARM.channels)
    assert watching.poll().mode == Mode.STOPPED
    watching.request_state()
    assert next_state(watching).mode == Mode.STOPPED
    watching.close()


def drive(arm, x, seconds=0.5):
    """Command x every 12.5 ms, the rest as at the start; the last state."""
    state, until_ns = None, in_s(seconds)
    while time.monotonic_ns() < until_ns:
        arm.send(np.array([x, *START[1:]], np.float32), in_s(0.5))
        state = next_state(arm)
        time.sleep(0.0125)
    return state


def test_it_connects_and_tells_what_it_is(link):
    info = link.connect()
    assert (info.channels, info.watchdog_ms) == (4, 1000)
    assert info.held_setpoint.tolist() == START.tolist()
    link.request_state()
    assert next_state(link).mode == Mode.DISARMED


def test_it_drives_where_it_is_sent(armed):
    state = drive(armed, 0.1, seconds=0.6)
    assert state.mode == Mode.ARMED
    assert state.position[0] == pytest.approx(0.1, abs=1e-3)
    assert armed.counts.refused == 0
    assert np.isfinite(state.effort).all()


def test_silence_latches_a_stop_until_it_is_armed_again(armed):
    drive(armed, 0.05, seconds=0.2)
    time.sleep(1.2)
    armed.request_state()
    state = next_state(armed)
    assert (state.mode, state.faults) == (Mode.STOPPED, Fault.WATCHDOG)
    armed.arm()
    armed.poll()
    assert drive(armed, 0.0, seconds=0.1).mode == Mode.ARMED


def test_stop_latches_and_no_command_is_taken_after_it(armed):
    drive(armed, 0.05, seconds=0.2)
    assert armed.stop()
    armed.poll()
    assert armed.mode is Mode.STOPPED
    armed.transport.write(encode(Command(armed._next_seq(), armed._device_us(in_s(0.5)), (0.2, 0.6, 0.2, 0.0)),
                                  Limits(ARM.channels)))  # fmt: skip
    state = next_state(armed)
    assert (state.verdict, state.mode, state.faults) == (Verdict.NOT_ARMED, Mode.STOPPED, Fault.STOP)


@pytest.mark.parametrize(("ahead_s", "verdict"), [(-0.001, Verdict.EXPIRED), (1.2, Verdict.TOO_FAR_AHEAD)])
def test_an_expiry_that_is_past_or_too_far_ahead_is_refused_by_the_firmware(armed, ahead_s, verdict):
    expiry_us = armed._device_us(in_s(ahead_s))
    armed.transport.write(encode(Command(armed._next_seq(), expiry_us, tuple(START.tolist())), Limits(ARM.channels)))
    state = next_state(armed)
    assert state.verdict == verdict
    assert state.rejected == 1


def test_out_of_limit_is_refused_by_the_limits_that_are_compiled_in(armed):
    wide = Limits([ChannelLimits(c.name, c.unit, -1e6, 1e6) for c in ARM.channels])
    armed.transport.write(encode(Command(armed._next_seq(), armed._device_us(in_s(0.5)), (0.51, 0.7, 0.2, 0.0)), wide))
    assert next_state(armed).verdict == Verdict.OUT_OF_LIMIT


def test_another_schema_is_refused_with_both_numbers(started):
    other = [ChannelLimits(f"joint_{i}", "rad", -1.0, 1.0) for i in range(4)]
    arm = EdgelinkArm(SerialTransport(started.port, 921_600), other)
    with pytest.raises(SchemaMismatch, match=r"firmware schema 0x6c6eb0ca, host schema 0x[0-9a-f]{8}: reflash"):
        arm.connect()


def test_another_watchdog_is_refused(started):
    arm = EdgelinkArm(SerialTransport(started.port, 921_600), ARM.channels, expected_watchdog_s=0.2)
    with pytest.raises(WatchdogMismatch):
        arm.connect()


def test_garbage_on_the_line_costs_nothing_but_itself(armed):
    rng = np.random.default_rng(0)
    for size in (1, 7, 211, 300):
        armed.transport.write(rng.bytes(size))
        time.sleep(0.02)
        state = drive(armed, 0.02, seconds=0.03)
        assert (state.mode, state.verdict) == (Mode.ARMED, Verdict.ACCEPTED)


def test_it_drives_across_the_wrap_of_its_clock(board):
    name, folder = board
    if name == "qemu":
        build(folder, "cortex-m4", "M4=edgelink-m4-late", f"M4_FLAGS=-DCLOCK_START_US={LATE_CLOCK_US}u")
    with running(name, folder, LATE_CLOCK_US) as late:
        arm = EdgelinkArm(SerialTransport(late.port, 921_600), ARM.channels, ARM.watchdog_s)
        arm.connect()
        arm.arm()
        first = next_state(arm)
        last = drive(arm, 0.1, seconds=1.9)
        arm.close()
    assert first.device_us > 2**31 > last.device_us
    assert (last.mode, last.faults) == (Mode.ARMED, Fault.NONE)
    assert arm.counts.refused == 0


@pytest.mark.parametrize("board", ["host"], indirect=True)
def test_the_host_board_ends_with_its_parent_and_reports(board):
    name, folder = board
    with running(name, folder) as started:
        arm = EdgelinkArm(SerialTransport(started.port, 921_600), ARM.channels)
        arm.connect()
        arm.transport.write(encode(Ping(1)))
        arm.close()
        time.sleep(0.05)
        report = started.end()
    assert (report["event"], report["mode"], report["frames"], report["spoiled"]) == ("exit", 0, 9, 0)
