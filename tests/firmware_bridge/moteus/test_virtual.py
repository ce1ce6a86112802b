"""The virtual moteus as the firmware behaves: modes, watchdog, errors, registers of every type, configuration."""

from __future__ import annotations

import pytest

from firmware_bridge.errors import BridgeError
from firmware_bridge.moteus import codec
from firmware_bridge.moteus.codec import REV, Gains, PositionCommand
from firmware_bridge.moteus.registers import FLOAT, INT8, INT16, INT32, Mode, Register
from firmware_bridge.moteus.virtual import make
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.__main__ import plant_of
from tests.firmware_bridge.moteus.arms import JOINTS

MS = 1000


class Bench:
    """A device and its clock. Answers are taken apart."""

    def __init__(self, **options):
        self.device = make(JOINTS, plant_of(list(JOINTS), 0.2), options)
        self.now_us = 1_000_000

    def ask(self, data, joint_id=1, reply=True):
        """Registers of the answer; None without one."""
        replies = self.device.feed(codec.frame(joint_id, data, reply), self.now_us)
        return codec.values(replies[0].data.data) if replies else None

    def mode(self, joint_id=1):
        return self.ask(codec.read(Register.MODE, 1, INT8), joint_id)[Register.MODE]

    def pass_ms(self, ms):
        for _ in range(ms):
            self.now_us += MS
            self.device.tick(self.now_us)

    def position(self, rad=0.0, watchdog_s=0.1, gains=Gains(), joint_id=1):
        return self.ask(PositionCommand(gains, watchdog_s, FLOAT).data(rad), joint_id, reply=False)


@pytest.fixture
def bench():
    return Bench()


def answer(bench, data, can_id=0x8001):
    return [reply.data for reply in bench.device.feed(Frame(can_id, data, can_id > 0x7FF, True, True), bench.now_us)]


def test_a_position_from_stopped_measures_the_current_sensors_first(bench):
    bench.position()
    assert bench.mode() == Mode.ENABLING
    bench.pass_ms(11)
    assert bench.mode() == Mode.POSITION
    assert bench.device.plant.torque_on[0]


def test_without_commands_the_watchdog_latches_and_only_a_stop_clears_it(bench):
    bench.position()
    bench.pass_ms(99)
    assert bench.mode() == Mode.POSITION
    bench.pass_ms(3)
    assert bench.mode() == Mode.TIMEOUT
    bench.position()
    bench.pass_ms(20)
    assert bench.mode() == Mode.TIMEOUT
    bench.ask(codec.mode(Mode.STOPPED), reply=False)
    bench.position()
    bench.pass_ms(11)
    assert bench.mode() == Mode.POSITION


def test_a_question_does_not_feed_the_watchdog(bench):
    bench.position()
    for _ in range(102):
        bench.pass_ms(1)
        bench.ask(codec.QUERY)
    assert bench.mode() == Mode.TIMEOUT


def test_each_command_brings_its_own_watchdog_time(bench):
    bench.position(watchdog_s=0.5)
    bench.pass_ms(400)
    assert bench.mode() == Mode.POSITION
    assert bench.ask(codec.READ_TIMEOUT)[Register.TIMEOUT] == pytest.approx(0.5)
    bench.position(watchdog_s=None)
    bench.pass_ms(3000)
    assert bench.mode() == Mode.POSITION


def test_a_command_that_names_no_time_has_the_configured_one(bench):
    bench.ask(codec.mode(Mode.POSITION), reply=False)
    bench.pass_ms(99)
    assert bench.mode() == Mode.POSITION
    bench.pass_ms(3)
    assert bench.mode() == Mode.TIMEOUT


@pytest.mark.parametrize(("timeout_mode", "torque"), [(0, False), (10, True), (12, True), (15, True)])
def test_what_a_timeout_does_is_configured(timeout_mode, torque):
    bench = Bench(timeout_mode=timeout_mode)
    bench.position()
    bench.pass_ms(150)
    assert bench.mode() == Mode.TIMEOUT
    assert bench.device.plant.torque_on[0] == torque


def test_a_timeout_that_damps_lets_a_hanging_arm_sink_slowly(bench):
    bench.position(watchdog_s=0.02)
    bench.pass_ms(100)
    assert -0.3 < bench.device.plant.velocity[0] < -0.05  # gravity 0.2 N m over kd 1.5 N m s/rad


def test_zero_velocity_and_brake_do_not_time_out(bench):
    bench.ask(codec.mode(Mode.ZERO_VELOCITY), reply=False)
    bench.pass_ms(500)
    assert bench.mode() == Mode.ZERO_VELOCITY


def test_stay_within_is_free_inside_and_pushes_back_from_outside(bench):
    inside = codec.stay_within(-1.0, 1.0, Gains(), None)
    bench.ask(inside, reply=False)
    bench.pass_ms(30)
    assert bench.mode() == Mode.STAY_WITHIN
    assert bench.device.plant.kp[0] == 0.0
    bench.ask(codec.stay_within(0.5, None, Gains(), None), reply=False)
    bench.pass_ms(600)
    assert bench.device.plant.position[0] == pytest.approx(0.5, abs=0.02)


def test_a_fault_is_left_only_by_a_stop(bench):
    bench.position()
    bench.pass_ms(11)
    bench.device.fault(0, "overheat")
    assert bench.ask(codec.QUERY)[Register.FAULT] == 38
    bench.position()
    assert bench.mode() == Mode.FAULT
    assert not bench.device.plant.torque_on[0]
    bench.ask(codec.mode(Mode.STOPPED), reply=False)
    assert bench.ask(codec.QUERY)[Register.FAULT] == 0
    with pytest.raises(ValueError, match="overload, overheat, voltage, encoder"):
        bench.device.fault(0, "sulking")


def test_starting_outside_its_position_limits_is_fault_39():
    bench = Bench(position_min=0.1, position_max=0.2)
    bench.position(0.15 * REV)
    bench.pass_ms(11)
    assert bench.ask(codec.QUERY)[Register.FAULT] == 39


def test_a_target_beyond_its_limits_is_cut_off_and_said_so():
    bench = Bench(position_min=-0.1, position_max=0.1)
    for _ in range(10):
        bench.position(1.0)
        bench.pass_ms(50)
    assert bench.device.plant.position[0] == pytest.approx(0.1 * REV, abs=0.01)
    assert bench.ask(codec.QUERY)[Register.FAULT] == 103


def test_gains_feed_forward_and_torque_limit_reach_the_joint(bench):
    bench.position(0.2, gains=Gains(0.5, 0.25, 0.3, 1.0))
    bench.pass_ms(11)
    plant = bench.device.plant
    assert (plant.kp[0], plant.kd[0]) == pytest.approx((30.0, 0.375), rel=1e-5)
    assert (plant.feed_forward[0], plant.limit[0]) == pytest.approx((0.3, 1.0), rel=1e-5)


@pytest.mark.parametrize("resolution", [INT8, INT16, INT32, FLOAT])
def test_registers_read_in_every_type(bench, resolution):
    bench.device.plant.position[0] = 0.5
    found = bench.ask(codec.read(Register.POSITION, 3, resolution) + codec.read(Register.VOLTAGE, 3, resolution))
    assert found[Register.POSITION] == pytest.approx(0.5 / REV, abs=0.01)
    assert (found[Register.VOLTAGE], found[Register.TEMPERATURE]) == (24.0, 31.0)


def test_commands_are_written_in_every_type(bench):
    for resolution, raw, rev in ((INT8, 20, 0.2), (INT16, 2000, 0.2), (INT32, 20000, 0.2)):
        data = codec.mode(Mode.POSITION)
        data += codec.write(Register.COMMAND_POSITION, [codec.number(raw, resolution)], resolution)
        bench.ask(data, reply=False)
        assert bench.ask(codec.read(Register.COMMAND_POSITION, 1, FLOAT))[0x20] == pytest.approx(rev)


def test_unknown_and_read_only_registers_are_errors(bench):
    (frame,) = answer(bench, codec.read(0x200, 1, INT8))
    assert frame.data == bytes.fromhex("31800401")
    (frame,) = answer(bench, codec.write(Register.POSITION, [b"\x00"], INT8))
    assert frame.data == bytes.fromhex("300102")
    (frame,) = answer(bench, codec.write(0x200, [b"\x00"], INT8))
    assert frame.data == bytes.fromhex("30800401")
    (frame,) = answer(bench, codec.write(Register.MODE, [b"\x10"], INT8))
    assert frame.data == bytes.fromhex("300001")
    (frame,) = answer(bench, codec.read(Register.MODEL, 1, INT8))  # versions are 32 bits or nothing
    assert frame.data == bytes.fromhex("31800201")


def test_a_mode_that_cannot_be_commanded_changes_nothing(bench):
    bench.ask(codec.mode(Mode.CALIBRATING), reply=False)
    assert bench.mode() == Mode.STOPPED


def test_answers_come_in_the_kind_of_frame_that_asked(bench):
    for fd, brs in ((True, True), (True, False), (False, False)):
        asked = Frame(0x8001, b"\x11\x00", True, fd, brs)
        (reply,) = bench.device.feed(asked, bench.now_us)
        assert reply.data == Frame(0x100, b"\x21\x00\x00", False, fd, brs)


def test_the_answer_goes_to_who_asked_and_only_when_it_is_wanted(bench):
    assert answer(bench, b"\x11\x00", 0x8509)[0].id == 0x905  # source 5, joint 9
    assert answer(bench, b"\x11\x00", 0x0001) == []
    assert answer(bench, b"\x11\x00", 0x8033) == []  # nobody has that id
    assert [frame.id for frame in answer(bench, b"\x11\x00", 0x807F)] == [j.id << 8 for j in JOINTS]  # broadcast


def test_torn_and_foreign_frames_are_dropped(bench):
    assert answer(bench, bytes.fromhex("01000a0c0620000000")) == []
    assert bench.device.report()["torn"] == 1
    assert bench.device.feed(Frame(0x18001, b"\x11\x00", True, True, True), bench.now_us) == []
    assert bench.device.feed(Frame(0x8001, b"", True, remote=True), bench.now_us) == []


def test_configuration_is_told_as_text(bench):
    bench.ask(codec.text_in(b"conf get servo.default_"), reply=False)
    assert answer(bench, codec.text_poll())[0].data == bytes.fromhex("410100")
    bench.ask(codec.text_in(b"timeout_s\n"), reply=False)
    assert codec.text_out(answer(bench, codec.text_poll(4))[0].data) == b"0.10"
    assert codec.text_out(answer(bench, codec.text_poll())[0].data) == b"0000\r\n"
    bench.ask(codec.text_in(b"conf get nonsense\n"), reply=False)
    assert codec.text_out(answer(bench, codec.text_poll())[0].data).startswith(b"ERR")


def test_without_power_it_is_silent_and_after_it_stopped(bench):
    bench.position()
    bench.pass_ms(11)
    bench.device.power(False, bench.now_us)
    assert answer(bench, b"\x11\x00") == []
    assert not bench.device.plant.torque_on.any()
    bench.device.power(True, bench.now_us)
    assert bench.mode() == Mode.STOPPED


def test_unknown_options_are_refused():
    with pytest.raises(BridgeError, match="timeout_mode"):
        Bench(colour=1)
    with pytest.raises(BridgeError):
        Bench(kp="stiff")
