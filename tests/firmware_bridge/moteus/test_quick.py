"""What the quick ways read and do is what the general ones do: answers, the virtual device, every single-bit flip."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault, Mode
from firmware_bridge.errors import NotArmed
from firmware_bridge.moteus import codec, virtual
from firmware_bridge.moteus.codec import REV, Gains, PositionCommand, Status
from firmware_bridge.moteus.driver import MoteusArm
from firmware_bridge.moteus.registers import FLOAT, INT8, INT16, INT32, OWN_CODE, Register
from firmware_bridge.moteus.registers import Mode as Device
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.__main__ import plant_of
from tests.firmware_bridge.moteus.arms import JOINTS

FORMS = pytest.mark.parametrize("form", [FLOAT, INT16])
# mode 10, 0.25 rev, -1.5 rev/s, 2.0 N m, 24 V, 31 deg C, no fault
IN_FLOATS = bytes.fromhex("21000a 2f01 0000803e 0000c0bf 00000040 230d301f00 5050")
# mode 10, 0.25 rev, 0 rev/s, -1.0 N m, 24 V, 31 deg C, no fault
IN_INT16 = bytes.fromhex("21000a 2701 c409 0000 9cff 230d 301f00")
LAW = ("target", "target_velocity", "feed_forward", "kp", "kd", "limit", "torque_on")


def flips(data):
    for bit in range(8 * len(data)):
        yield (int.from_bytes(data, "little") ^ 1 << bit).to_bytes(len(data), "little")


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [IN_FLOATS, IN_INT16], ids=["floats", "int16"])
def test_an_answer_with_one_bit_turned_round_reads_the_same_both_ways(answer):
    for data in (answer, *flips(answer)):
        assert repr(codec.status(data)) == repr(codec._status_of_any_layout(data)), data.hex()


class Line:
    """Hands over `arrived` once and keeps what is written."""

    name = "line"

    def __init__(self):
        self.arrived, self.written = [], []

    def read(self):
        frames, self.arrived = self.arrived, []
        return frames

    def write(self, frames):
        self.written += frames


def heard(arm, *frames):
    arm.transport.arrived = list(frames)
    return list(arm._readings())


def answered(mode=Device.POSITION, fault=0, joint_id=3):
    data = IN_FLOATS[:2] + bytes((mode,)) + IN_FLOATS[3:-3] + bytes((fault,)) + IN_FLOATS[-2:]
    return Frame(joint_id << 8, data, joint_id << 8 > 0x7FF, True, True)


@pytest.fixture
def arm():
    return MoteusArm(Line(), JOINTS, 0.1)


def test_an_answer_is_the_state_of_its_joint(arm):
    assert heard(arm, answered()) == [(2, math.pi / 2, -3 * math.pi, 2.0, 31.0, Fault.NONE, 0)]
    assert arm._last[2] == Status(10, 0.25, -1.5, 2.0, 24.0, 31.0, 0)


def test_what_comes_from_nobody_or_is_no_status_is_foreign(arm):
    assert heard(arm, answered(joint_id=77), Frame(0x300, IN_FLOATS[:-3])) == []
    assert heard(arm, answered()._replace(extended=True), answered()._replace(remote=True)) == []
    assert arm.counts.foreign == 4


def test_what_limits_a_joint_is_told_and_is_no_fault(arm):
    arm.mode = Mode.ARMED
    assert heard(arm, answered(fault=103))[0][5:] == (Fault.NONE, 103)


@pytest.mark.parametrize(
    ("mode", "code", "faults", "told"),
    [
        (Device.FAULT, 38, Fault.OVERHEAT, 38),
        (Device.FAULT, 37, Fault.OTHER, 37),
        (Device.FAULT, 0, Fault.OTHER, OWN_CODE + 1),
        (Device.TIMEOUT, 0, Fault.WATCHDOG, OWN_CODE + 11),
        (Device.BRAKE, 0, Fault.OTHER, OWN_CODE + 15),
        (Device.STOPPED, 0, Fault.RESET, OWN_CODE + 0),
    ],
)
def test_a_mode_that_an_armed_joint_should_not_be_in_is_a_fault(arm, mode, code, faults, told):
    arm.mode = Mode.ARMED
    assert heard(arm, answered(mode, code))[0][5:] == (faults, told)
    stopped = [frame for frame in arm.transport.written if frame.data[:3] == bytes.fromhex("010000")]
    assert len(stopped) == (mode is Device.STOPPED)  # it restarted: no torque by itself


def test_a_joint_that_restarted_is_not_woken_by_the_command_that_finds_it(arm):
    """One other joint is silent, so that no state is made of the cycle."""
    arm._moves = [PositionCommand(Gains(), 0.1, FLOAT, codec.query(FLOAT)) for _ in JOINTS]
    arm.mode, held = Mode.ARMED, np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.04], np.float32)
    later_ns = time.monotonic_ns() + 60 * 10**9
    assert arm.send(held, later_ns)
    arm.transport.written.clear()
    arm.transport.arrived = [answered(joint_id=j.id) for j in JOINTS[1:2]] + [answered(Device.STOPPED)]
    with pytest.raises(NotArmed, match=r"elbow: <Fault.RESET: 128>"):
        arm.send(held, later_ns)
    assert arm.transport.written == [arm._stops[2]]


# --- the device ------------------------------------------------------------------------------------------------------


@FORMS
@given(
    st.sampled_from(list(Device)),
    *[st.floats(-1e6, 1e6, width=32) | st.just(math.nan)] * 3,
    st.floats(0.0, 60.0),
    st.floats(-40.0, 90.0) | st.just(math.nan),
    st.integers(0, 250),
)
def test_the_answer_of_a_device_is_the_one_of_its_registers(form, mode, position, velocity, torque, volt, hot, fault):
    data = codec.status_answer(Status(mode, position, velocity, torque, volt, hot, fault), form)
    scales = (codec.reg.POSITION_SCALE, codec.reg.VELOCITY_SCALE, codec.reg.TORQUE_SCALE)
    pairs = zip((position, velocity, torque), scales, strict=True)
    sensed = [codec.saturated(volt, 0.5, INT8), codec.saturated(hot, 1.0, INT8), codec.number(fault, INT8)]
    expected = b""
    for register, values, resolution in (
        (Register.MODE, [codec.number(mode, INT8)], INT8),
        (Register.POSITION, [codec.saturated(value, scale[form], form) for value, scale in pairs], form),
        (Register.VOLTAGE, sensed, INT8),
    ):
        body = codec.write(register, values, resolution)
        expected += bytes((body[0] | codec.REPLY,)) + body[1:]
    assert data == codec.padded(expected)


class Pair:
    """Two devices: one as it is, one that takes every frame apart register by register."""

    def __init__(self, **options):
        self.quick, self.slow = (virtual.make(JOINTS, plant_of(list(JOINTS), 0.2), options) for _ in range(2))
        self.slow._moved = lambda index, data, now_us: None
        self.now_us = 1_000_000

    def both(self, what):
        """`what` at each of them; the results, and what became of both, must be the same."""
        found = [what(device) for device in (self.quick, self.slow)]
        assert found[0] == found[1]
        for name in LAW:
            assert np.array_equal(getattr(self.quick.plant, name), getattr(self.slow.plant, name), equal_nan=True), name
        assert self.quick.report() == self.slow.report()
        commands = ([repr(c.command) for c in d._controllers.all] for d in (self.quick, self.slow))
        assert next(commands) == next(commands)
        return found[0]

    def ask(self, data, joint_id=1):
        return self.both(lambda device: device.feed(codec.frame(joint_id, data), self.now_us))

    def pass_ms(self, ms):
        self.now_us += 1000 * ms
        self.both(lambda device: device.tick(self.now_us))

    def restart(self):
        self.both(lambda device: device.power(False, self.now_us))
        self.both(lambda device: device.power(True, self.now_us))


def position(form, rad, gains=Gains(0.5, 0.25, 0.1, 2.5), watchdog_s=0.1):
    return PositionCommand(gains, watchdog_s, form, codec.query(form)).data(rad)


@FORMS
def test_a_command_with_one_bit_turned_round_does_the_same_both_ways(form):
    pair = Pair()
    for data in flips(position(form, 0.2)):
        pair.restart()
        for rad in (0.0, 0.1):
            pair.ask(position(form, rad))
            pair.pass_ms(11)  # current sensors measured: position mode
        pair.ask(data)
        pair.pass_ms(1)
        pair.ask(position(form, 0.3))


@FORMS
def test_commands_of_all_kinds_in_a_row_do_the_same_both_ways(form):
    pair = Pair(position_min=-0.1, position_max=0.1)
    hold = position(form, 0.1, watchdog_s=None)
    for data, ms in (
        (position(form, 0.1), 11),
        (position(form, 0.12), 5),
        (position(form, 1.0), 5),  # beyond its limits: cut off, code 103
        (position(form, -1.0), 5),
        (position(form, 0.1, Gains()), 5),  # other gains
        (position(form, 0.1), 5),
        (codec.write(Register.KP_SCALE, [codec.counts(0.1, 1 / 127, INT8)], INT8), 5),
        (position(form, 0.05), 5),
        (codec.mode(Device.ZERO_VELOCITY), 5),
        (position(form, 0.1), 120),  # the watchdog latches
        (position(form, 0.1), 5),
        (codec.mode(Device.STOPPED), 5),
        (position(form, 0.1), 11),
        (hold, 500),
        (codec.stay_within(-0.1, 0.1, Gains(), 0.5), 5),
        (position(form, 0.0), 5),
        (position(form, 0.0)[:20], 5),  # torn
        (position(form, 0.0).rstrip(b"\x50") + codec.text_poll(), 5),
        (codec.query(form), 5),
        (position(form, 0.0, watchdog_s=0.003), 5),
    ):
        pair.ask(data)
        pair.pass_ms(ms)
        pair.ask(codec.query(form))
    pair.both(lambda device: device.fault(0, "overheat"))
    pair.ask(position(form, 0.1))


@pytest.mark.parametrize("form", [INT8, INT16, INT32, FLOAT])
@pytest.mark.parametrize("count", range(1, 8))
def test_as_many_registers_as_a_host_writes_in_whatever_type_do_the_same_both_ways(form, count):
    pair = Pair()
    for raw in (1, 2, 3, 4):
        values = [codec.number(raw, form)] * count
        data = codec.mode(Device.POSITION) + codec.write(Register.COMMAND_POSITION, values, form)
        pair.ask(data + codec.query(FLOAT))
        pair.pass_ms(11)
    assert pair.quick._followed[0] is not None


def test_position_that_is_not_given_holds_where_the_joint_is():
    pair = Pair()
    for _ in range(3):
        pair.ask(position(FLOAT, 0.3))
        pair.pass_ms(11)
    here = float(pair.quick.plant.position[0])
    pair.ask(position(FLOAT, 0.0).replace(bytes(4), bytes.fromhex("0000c07f"), 1))
    assert pair.quick.plant.target[0] == pytest.approx(here)


def test_more_kinds_of_commands_than_are_remembered_are_obeyed():
    pair = Pair()
    for share in range(300):
        pair.ask(position(FLOAT, 0.1 * REV, Gains(kp_scale=share / 300)))
        pair.pass_ms(1)
    assert pair.quick.plant.kp[0] == pytest.approx(60.0 * 299 / 300)
