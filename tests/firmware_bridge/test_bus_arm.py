"""The base of drivers on a shared bus: a command's expiry, a state's age, one cycle's answers, modes."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge import bus_arm
from firmware_bridge.arm import Fault, Joint, JointInfo, JointState, Mode, StopKind, exchange
from firmware_bridge.bus_arm import BusArm, Reading
from firmware_bridge.errors import ArmRefused, BadSetpoint, Expired, JointSilent, NoAnswer, NotArmed

JOINTS = (
    Joint("pan", "rad", -1.0, 1.0, 1, "m", direction=-1, zero_rad=0.5),
    Joint("lift", "m", 0.0, 0.2, 2, "m", ratio=0.05),
    Joint("grip", "1", 0.0, 1.0, 3, "m", zero_rad=-0.25, ratio=2.0),
)
MIDDLE = np.array([0.25, 0.1, 0.5], np.float32)  # exact in binary but 0.1
HOUR_NS = 3_600_000_000_000


class Clock:
    """Stands for the module's `time`. Each look costs a microsecond."""

    def __init__(self):
        self.now_ns = 5_000_000_000

    def monotonic_ns(self):
        self.now_ns += 1_000
        return self.now_ns


class Bus:
    """Joints that answer at once, and a record of what was written. `arrived` may be filled by a test too."""

    name = "bus0"

    def __init__(self, clock):
        self.clock, self.log, self.arrived, self.mute, self.opened = clock, [], [], set(), False
        self.readings = [Reading(i, j.to_device(0.5 * (j.minimum + j.maximum)), 0.5, 2.0, 30.0 + i) for i, j in
                         enumerate(JOINTS)]  # fmt: skip

    def open(self):
        self.opened = True

    def close(self):
        self.opened = False

    def write(self, data):
        self.log.append((self.clock.now_ns, data))
        self.arrived += [reading for reading in self.readings if reading.joint not in self.mute]

    def read(self):
        arrived, self.arrived = self.arrived, []
        return arrived

    def wait_readable(self, deadline_ns):
        return bool(self.arrived)


class BenchArm(BusArm):
    """Its frames are the device angles themselves."""

    confirms = True

    def _identify(self):
        return tuple(
            JointInfo(j.name, j.id, j.model, "1", (j.minimum, j.maximum), 0.1 * j.id, 0.0) for j in self.joints
        )

    def _ask(self):
        self.transport.write("ask")

    def _frames(self, device_rad):
        return list(device_rad)

    def _write(self, frames):
        self.transport.write(frames)

    def _readings(self):
        return self.transport.read()

    def _enable(self):
        self.transport.log.append("enable")

    def _disable(self):
        return self.confirms

    def _halt(self, kind):
        self.transport.log.append(kind)
        return self.confirms


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bus_arm, "time", clock)
    return clock


@pytest.fixture
def arm(clock):
    return BenchArm(Bus(clock), JOINTS, 0.1)


@pytest.fixture
def armed(arm):
    arm.connect()
    arm.arm()
    arm.transport.log.clear()
    return arm


def written(arm):
    return [data for _, data in arm.transport.log]


# --- commands ---


def test_a_command_reaches_the_wire_as_device_angles(armed):
    assert armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS) > 0
    expected = [joint.to_device(value) for joint, value in zip(JOINTS, MIDDLE.tolist(), strict=True)]
    assert written(armed) == [expected]
    assert (armed.counts.sent, armed.counts.late, armed.counts.overtaken) == (1, 0, 0)


@pytest.mark.parametrize("ahead_ns", [-HOUR_NS, 0, 1_000])
def test_an_expired_command_is_never_written(armed, ahead_ns):
    """The clock's next look is 1 us later: an expiry of that very instant has passed."""
    before = armed.last_asked
    assert armed.send(MIDDLE, armed.transport.clock.now_ns + ahead_ns) == 0
    assert written(armed) == []
    assert (armed.counts.sent, armed.counts.late, armed.counts.overtaken) == (0, 1, 0)
    assert armed.last_asked == before


def test_a_command_with_a_microsecond_left_is_written_and_counted_as_overtaken_when_the_write_ends_late(armed):
    now_ns = armed.transport.clock.now_ns
    assert armed.send(MIDDLE, now_ns + 1_001) == now_ns + 2_000
    assert (armed.counts.sent, armed.counts.overtaken) == (1, 1)


def test_a_write_that_ends_at_the_expiry_itself_is_in_time(armed):
    assert armed.send(MIDDLE, armed.transport.clock.now_ns + 2_000) > 0
    assert armed.counts.overtaken == 0


@pytest.mark.parametrize("slow", ["_frames", "_readings"])
def test_the_expiry_is_checked_after_encoding_and_reading(armed, slow):
    expiry_ns = armed.transport.clock.now_ns + 1_000_000
    real = getattr(armed, slow)

    def slowly(*arguments):
        armed.transport.clock.now_ns = expiry_ns
        return real(*arguments)

    setattr(armed, slow, slowly)
    assert armed.send(MIDDLE, expiry_ns) == 0
    assert written(armed) == []


def test_commands_that_are_late_or_overtaken_add_up(armed):
    clock = armed.transport.clock
    for _ in range(2):
        armed.send(MIDDLE, clock.now_ns)
        armed.send(MIDDLE, clock.now_ns + 1_001)
    assert (armed.counts.sent, armed.counts.late, armed.counts.overtaken) == (2, 2, 2)


@pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.STOPPED])
def test_an_arm_that_is_not_armed_takes_no_command(armed, mode):
    armed.mode = mode
    with pytest.raises(NotArmed, match=f"mode {mode.name}"):
        armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    assert written(armed) == []


def end(joint, side, steps):
    """The float32 `steps` above an end of a joint's range."""
    value = np.float32(getattr(JOINTS[joint], side))
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(np.sign(steps) * np.inf), dtype=np.float32)
    setpoint = MIDDLE.copy()
    setpoint[joint] = value
    return setpoint


@pytest.mark.parametrize("joint", range(3))
@pytest.mark.parametrize(("side", "outwards"), [("minimum", -1), ("maximum", 1)])
def test_the_ends_of_a_range_are_inside_and_the_next_number_is_not(armed, joint, side, outwards):
    later_ns = armed.transport.clock.now_ns + HOUR_NS
    assert armed.send(end(joint, side, 0), later_ns) > 0
    armed.transport.log.clear()
    with pytest.raises(BadSetpoint, match="outside its range"):
        armed.send(end(joint, side, outwards), later_ns)
    assert written(armed) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("joint", range(3))
def test_what_is_not_finite_is_refused(armed, joint, bad):
    setpoint = MIDDLE.copy()
    setpoint[joint] = bad
    with pytest.raises(BadSetpoint, match="not finite"):
        armed.send(setpoint, armed.transport.clock.now_ns + HOUR_NS)


def test_a_set_point_of_another_kind_is_refused(armed):
    with pytest.raises(BadSetpoint, match=r"expected: float32 \(3,\)"):
        armed.send(MIDDLE.tolist(), armed.transport.clock.now_ns + HOUR_NS)
    assert written(armed) == []


# --- states ---


def test_a_state_is_in_channel_units_and_as_old_as_the_question(armed):
    clock = armed.transport.clock
    asked_ns = clock.now_ns + 1_000  # the look at the clock right before the write
    state = exchange(armed, MIDDLE, clock.now_ns + HOUR_NS)
    assert state.position.tolist() == np.array([0.0, 0.1, 0.5], np.float32).tolist()
    assert state.velocity.tolist() == np.array([-0.5, 0.025, 1.0], np.float32).tolist()
    assert state.effort.tolist() == np.array([-2.0, 40.0, 1.0], np.float32).tolist()
    assert state.temperature.tolist() == [30.0, 31.0, 32.0]
    assert (state.stamp_ns, state.device_us) == (asked_ns, asked_ns // 1000 & 0xFFFF_FFFF)
    assert (state.mode, state.faults, state.joint_faults) == (Mode.ARMED, Fault.NONE, (0, 0, 0))
    assert (state.last_seq, armed.counts.replies) == (armed.last_asked, 3)  # two were read by connect() and arm()


def test_a_state_has_the_fields_and_types_of_one_that_was_built_the_ordinary_way(armed):
    state = exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    built = replace(state)
    assert vars(built).keys() == vars(state).keys() == set(JointState.__dataclass_fields__)
    assert state.__dict__ == built.__dict__
    assert {array.dtype for array in (state.position, state.velocity, state.effort, state.temperature)} == {
        np.dtype(np.float32)
    }


def test_the_device_clock_wraps_at_32_bits(armed):
    armed.transport.clock.now_ns = 5_000_000_000_000
    state = exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    assert state.device_us == (5_000_000_000_000 // 1000 + 1) - 2**32


def test_answers_of_an_earlier_cycle_never_become_a_state_of_this_one(armed):
    armed.transport.mute = {0, 1, 2}
    armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    armed.transport.arrived = [armed.transport.readings[0], armed.transport.readings[1]]  # and then the next begins
    armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    armed.transport.arrived = [armed.transport.readings[2]]
    assert armed.poll() is None
    assert armed.counts.incomplete == 1
    armed.transport.arrived = armed.transport.readings[:2]
    assert armed.poll().stamp_ns < armed._asked_ns  # the third joint's may be the answer it owed


def send_all(armed):
    """A command; when it was asked."""
    before_ns = armed.transport.clock.now_ns
    armed.send(MIDDLE, before_ns + HOUR_NS)
    return before_ns, armed.transport.clock.now_ns


def test_after_a_missing_answer_a_state_is_as_old_as_the_question_it_may_answer(armed):
    armed.transport.mute = {1}
    earliest_ns, latest_ns = send_all(armed)
    armed.transport.mute = set()
    send_all(armed)
    state = armed.poll()
    assert earliest_ns <= state.stamp_ns <= latest_ns


def test_the_answer_that_was_owed_makes_the_next_one_certain(armed):
    armed.transport.mute = {1}
    send_all(armed)
    armed.transport.mute = set()
    asked_ns, _ = send_all(armed)
    assert armed.poll().stamp_ns < asked_ns
    armed.transport.arrived = [armed.transport.readings[1]._replace(position_rad=armed.transport.readings[1][1] + 0.1)]
    state = armed.poll()  # the second answer of the joint: this one is to the last question
    assert state.stamp_ns >= asked_ns
    assert state.position[1] == pytest.approx(MIDDLE[1] + 0.1 * 0.05, abs=1e-6)
    send_all(armed)
    assert armed.poll().stamp_ns == armed._asked_ns
    assert armed.counts.foreign == 0


def test_an_answer_that_never_came_is_lost_after_50_ms(armed):
    armed.transport.mute = {1}
    send_all(armed)
    armed.transport.mute = set()
    armed.transport.clock.now_ns += 49_000_000
    send_all(armed)
    assert armed.poll().stamp_ns < armed._asked_ns
    armed.transport.clock.now_ns += 1_000_000
    send_all(armed)
    assert armed.poll().stamp_ns == armed._asked_ns


def test_two_missing_answers_are_two_questions_of_doubt_and_never_more_than_are_remembered(armed):
    armed.transport.mute = {0, 1, 2}
    first_ns, latest_ns = send_all(armed)
    send_all(armed)
    armed.transport.mute = set()
    send_all(armed)
    assert first_ns <= armed.poll().stamp_ns <= latest_ns
    armed.transport.mute = {0, 1, 2}
    asked = [send_all(armed) for _ in range(20)]
    armed.transport.mute = set()
    send_all(armed)
    assert asked[-7][0] <= armed.poll().stamp_ns <= asked[-7][1]


def test_an_answer_twice_or_of_nobody_is_foreign(armed):
    armed.transport.mute = {2}
    armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    armed.transport.arrived += [armed.transport.readings[0], Reading(7, 0.0)]
    assert armed.poll() is None
    assert (armed.counts.foreign, armed.counts.bad_replies) == (2, 0)


def test_an_answer_that_is_not_finite_is_no_answer(armed):
    armed.transport.readings[1] = Reading(1, float("nan"))
    armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    assert armed.poll() is None
    assert (armed.counts.bad_replies, armed.counts.foreign) == (1, 0)
    assert "lift (id 2)" in str(armed.silence())


def test_a_state_is_handed_out_once(armed):
    armed.request_state()
    assert armed.poll().last_seq == armed.last_asked
    assert armed.poll() is None


def test_a_complete_cycle_is_not_counted_as_incomplete(armed):
    for _ in range(3):
        exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    assert armed.counts.incomplete == 0
    assert armed.counts.foreign == 0


def test_a_fault_of_any_joint_stops_all_and_only_arming_clears_it(armed):
    armed.transport.readings[1] = armed.transport.readings[1]._replace(faults=Fault.OVERLOAD, code=32)
    armed.transport.readings[2] = armed.transport.readings[2]._replace(faults=Fault.OVERHEAT)
    state = exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    assert state.faults is Fault.OVERLOAD | Fault.OVERHEAT
    assert (state.mode, state.joint_faults) == (Mode.STOPPED, (0, 32, 0))
    armed.transport.readings = [reading._replace(faults=0) for reading in armed.transport.readings]
    with pytest.raises(NotArmed, match="mode STOPPED"):
        armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    armed.arm()
    assert armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS) > 0


def test_a_fault_of_a_disarmed_arm_is_told_and_changes_no_mode(arm):
    arm.transport.readings[0] = arm.transport.readings[0]._replace(faults=Fault.VOLTAGE)
    arm.connect()
    arm.request_state()
    assert arm.poll().faults is Fault.VOLTAGE
    assert arm.mode is Mode.DISARMED


# --- modes ---


def test_connecting_reads_the_arm_and_arms_nothing(arm):
    info = arm.connect()
    assert (info.port, info.channels, info.watchdog_ms, len(info.joints)) == ("bus0", 3, 100, 3)
    assert info.held_setpoint.tolist() == arm.held.tolist() == np.array([0.0, 0.1, 0.5], np.float32).tolist()
    assert (arm.mode, arm.transport.opened) == (Mode.DISARMED, True)
    assert "enable" not in arm.transport.log


def test_a_failed_connection_leaves_the_port_closed(arm):
    arm.transport.mute = {0, 1, 2}
    with pytest.raises(NoAnswer, match="no joint answers on bus0"):
        arm.connect()
    assert not arm.transport.opened


def test_a_silent_joint_is_named(arm):
    arm.transport.mute = {1}
    with pytest.raises(JointSilent, match=r"lift \(id 2\)"):
        arm.connect()


@pytest.mark.parametrize("at", [-1.02, 1.02])
def test_an_arm_outside_its_range_is_not_armed(arm, at):
    arm.connect()
    arm.transport.readings[0] = Reading(0, JOINTS[0].to_device(at))
    with pytest.raises(ArmRefused, match="pan outside its range"):
        arm.arm()
    assert arm.mode is Mode.STOPPED
    assert "enable" not in arm.transport.log


def test_arming_holds_what_it_finds(arm):
    arm.connect()
    arm.transport.readings[0] = Reading(0, JOINTS[0].to_device(0.75))
    arm.arm()
    assert arm.held[0] == np.float32(0.75)
    assert (arm.mode, arm.transport.log[-1]) == (Mode.ARMED, "enable")


def test_disarming_that_is_not_confirmed_is_an_error_and_takes_no_commands(armed):
    armed.confirms = False
    with pytest.raises(ArmRefused, match="did not confirm"):
        armed.disarm()
    assert armed.mode is Mode.STOPPED
    armed.confirms = True
    armed.disarm()
    assert armed.mode is Mode.DISARMED


def test_a_stop_latches_and_says_whether_it_was_confirmed(armed):
    assert armed.stop(StopKind.DAMP) is True
    assert armed.transport.log == [StopKind.DAMP]
    assert armed.mode is Mode.STOPPED
    armed.confirms = False
    assert armed.stop() is False


def test_a_stop_of_a_disarmed_arm_leaves_it_disarmed(arm):
    arm.connect()
    arm.stop()
    assert arm.mode is Mode.DISARMED


def test_closing_stops_an_armed_arm_once(armed):
    armed.close()
    armed.close()
    assert armed.transport.log == [StopKind.HOLD]
    assert (armed.mode, armed.transport.opened) == (Mode.DISARMED, False)


def test_an_exchange_without_time_left_is_an_error_and_writes_nothing(armed):
    with pytest.raises(Expired, match="deadline"):
        exchange(armed, MIDDLE, armed.transport.clock.now_ns)
    assert written(armed) == []


def test_an_exchange_with_a_silent_joint_names_it(armed):
    armed.transport.mute = {2}
    with pytest.raises(JointSilent, match=r"grip \(id 3\)"):
        exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
