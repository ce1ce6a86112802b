"""The base of drivers on a shared bus: one cycle's answers, and the age of the state that they make."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.arm import Fault, JointState, Mode, exchange
from firmware_bridge.bus_arm import MOST_RAD, Reading
from firmware_bridge.errors import NotArmed
from tests.firmware_bridge.bus_arm.bench import HOUR_NS, MIDDLE, written


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
    assert (state.verdict, state.rejected) == (0, 0)
    assert (state.last_seq, armed.counts.replies) == (armed.last_asked, 3)  # two were read by connect() and arm()


def test_questions_are_counted_one_by_one_and_a_state_says_which_it_answers(armed):
    first = armed.last_asked
    exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    assert exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS).last_seq == first + 2
    armed.request_state()
    assert (armed.last_asked, armed.poll().last_seq) == (first + 3, first + 3)


def test_a_cycle_that_nothing_was_written_in_is_missed_once(armed):
    armed.transport.mute = {0, 1, 2}
    send_all(armed)
    for _ in range(3):
        armed.send(MIDDLE, 0)  # expired: nothing is asked, so nobody owes an answer to it
    assert armed.counts.incomplete == 1


def test_a_cycle_that_stays_incomplete_makes_no_state_of_answers_to_an_earlier_question(armed):
    """Nothing was written since: an answer that comes at last does not speak for the joint that stays silent."""
    send_all(armed)
    armed.poll()
    answers = armed.transport.readings
    armed.transport.mute = {1, 2}
    asked_ns, _ = send_all(armed)
    armed.transport.clock.now_ns += 60_000_000
    armed.send(MIDDLE, 0)
    armed.transport.arrived = [answers[1]]
    assert armed.poll() is None
    assert "grip (id 3)" in str(armed.silence())
    armed.transport.arrived = [answers[2]]
    assert armed.poll().stamp_ns >= asked_ns


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


def test_answers_of_an_earlier_command_never_become_a_state_that_was_asked_for_alone(armed):
    armed.transport.mute = {0, 1, 2}
    armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    armed.transport.arrived = list(armed.transport.readings[:2])  # and then a state is asked for
    armed.request_state()
    armed.transport.arrived = [armed.transport.readings[2]]
    assert armed.poll() is None
    assert armed.counts.incomplete == 1


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


def test_a_fault_in_the_first_of_two_answers_is_not_overlooked(armed):
    armed.transport.mute = {1}
    send_all(armed)
    armed.transport.mute = set()
    send_all(armed)
    whole = armed.transport.arrived
    armed.transport.arrived = [whole[0], whole[2], whole[1]._replace(faults=Fault.OVERLOAD), whole[1]]
    assert armed.poll().mode is Mode.STOPPED


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


@pytest.mark.parametrize("position_rad", [float("nan"), float("inf"), -2.1e39])  # the last: infinite as float32
def test_an_answer_that_is_not_finite_is_no_answer(armed, position_rad):
    armed.transport.readings[1] = Reading(1, position_rad)
    armed.send(MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
    assert armed.poll() is None
    assert (armed.counts.bad_replies, armed.counts.foreign) == (1, 0)
    assert "lift (id 2)" in str(armed.silence())


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_an_answer_of_most_rad_is_the_last_that_is_taken(armed, sign):
    armed.transport.readings[1] = Reading(1, sign * MOST_RAD)
    armed.request_state()
    assert np.isfinite(armed.poll().position).all()
    armed.transport.readings[1] = Reading(1, sign * np.nextafter(MOST_RAD, np.inf))
    armed.request_state()
    assert armed.poll() is None
    assert armed.counts.bad_replies == 1


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


def test_a_fault_that_is_read_right_before_a_command_keeps_it_from_the_wire(armed):
    send_all(armed)
    armed.transport.arrived[2] = armed.transport.arrived[2]._replace(faults=Fault.OVERHEAT)
    with pytest.raises(NotArmed, match=r"mode STOPPED; grip: <Fault.OVERHEAT: 8>"):
        send_all(armed)
    assert len(written(armed)) == 1
    assert armed.poll().faults is Fault.OVERHEAT


@pytest.mark.parametrize("read_by_poll", [False, True])
def test_a_fault_beside_a_silent_joint_ends_motion_too(armed, read_by_poll):
    armed.transport.mute = {1}
    armed.transport.readings[0] = armed.transport.readings[0]._replace(faults=Fault.RESET)
    send_all(armed)
    if read_by_poll:
        assert armed.poll() is None
    with pytest.raises(NotArmed, match=r"pan: <Fault.RESET: 128>"):
        send_all(armed)
    assert (armed.mode, len(written(armed))) == (Mode.STOPPED, 1)


def test_faults_of_a_cycle_before_do_not_stop_an_arm_that_was_armed_since(armed):
    armed.transport.readings[1] = armed.transport.readings[1]._replace(faults=Fault.OVERLOAD)
    send_all(armed)
    armed.poll()
    armed.transport.readings[1] = armed.transport.readings[1]._replace(faults=0)
    armed.arm()
    armed.transport.mute = {0, 1, 2}
    send_all(armed)
    assert send_all(armed)
    assert armed.mode is Mode.ARMED


def test_a_fault_of_a_disarmed_arm_is_told_and_changes_no_mode(arm):
    arm.transport.readings[0] = arm.transport.readings[0]._replace(faults=Fault.VOLTAGE)
    arm.connect()
    arm.request_state()
    assert arm.poll().faults is Fault.VOLTAGE
    assert arm.mode is Mode.DISARMED
