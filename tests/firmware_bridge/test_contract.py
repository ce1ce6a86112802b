"""The contract of `contract.py`, run against every driver of the registry that is in this tree."""

from __future__ import annotations

import importlib.util
import time

import numpy as np
import pytest

from firmware_bridge.arm import Mode, StopKind
from firmware_bridge.errors import (
    BadSetpoint,
    BridgeError,
    BusOff,
    Expired,
    JointSilent,
    NoAnswer,
    NotArmed,
    PortError,
    PortGone,
)
from firmware_bridge.protocols import module
from firmware_bridge.transport.log import What
from firmware_bridge.transport.recording import units
from tests.firmware_bridge.contract import SLACK_S, Bench, Session, installed, judge, noticed, wider

NAN, INF = float("nan"), float("inf")
DEADLINE_S = 0.03
MS = 1_000_000


@pytest.fixture(scope="module", params=installed())
def bench(request, tmp_path_factory):
    made = Bench(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


@pytest.fixture
def session(bench):
    """A driver, not connected. When the case is over, every byte that it wrote is judged."""
    bench.fresh()
    made = bench.driver()
    yield made
    made.end()


@pytest.fixture
def armed(session) -> Session:
    return session.armed()


def timed(call):
    """(error, seconds) of a call that must fail."""
    before = time.monotonic()
    with pytest.raises(BridgeError) as caught:
        call()
    return caught.value, time.monotonic() - before


def elsewhere(bench, share=0.2):
    """A set-point away from the middle, within every range."""
    return (bench.middle + np.float32(share) * bench.span).astype(np.float32)


def follow(session, setpoint, seconds=0.25):
    """Cycles until the joints had time to arrive; the last state."""
    until, state = time.monotonic() + seconds, None
    while time.monotonic() < until:
        state = session.cycle(setpoint)
        time.sleep(0.002)
    return state


def near(bench, got, expected, share=0.03):
    return bool((np.abs(np.asarray(got) - expected) <= share * bench.span).all())


def recovered(session, setpoint, connect=False):
    """A whole cycle of an armed arm again, armed again by hand where a fault had latched.

    `connect`: over a new connection where the protocol asks for one (its device has forgotten the host).
    """
    for attempt in range(3):
        try:
            if attempt or session.arm.mode is not Mode.ARMED:
                session.arm.arm()
            state = session.cycle(setpoint)
            if state.mode == Mode.ARMED:
                return state
        except BridgeError as error:
            last = error
            if connect:
                session.arm.close()
                session.arm.connect()
    raise last


def test_every_registered_protocol_says_which_arm_the_contract_drives():
    missing = [name for name in installed() if not importlib.util.find_spec(f"tests.firmware_bridge.{name}.arms")]
    assert missing == []


# --- connecting and modes ---


def test_connecting_never_arms_and_prints_every_joint(bench, session):
    info = session.arm.connect()
    assert session.arm.mode is Mode.DISARMED
    assert not any(bench.torque_on())
    assert info.channels == len(bench.joints)
    assert near(bench, info.held_setpoint, bench.middle)
    assert [joint.id for joint in info.joints] in ([], [joint.id for joint in bench.joints])
    assert (info.watchdog_ms > 0) == (bench.watchdog_s is not None)


def test_only_an_armed_arm_takes_set_points(bench, session):
    session.arm.connect()
    for leave in (session.arm.stop, session.arm.disarm):
        session.arm.arm()
        leave()
        before = session.written()
        with pytest.raises(NotArmed):
            session.cycle(bench.middle)
        assert session.written() == before


def test_before_arming_nothing_is_commanded(bench, session):
    session.arm.connect()
    before = session.written()
    with pytest.raises(NotArmed):
        session.cycle(bench.middle)
    assert session.written() == before


def test_arming_does_not_move_the_arm(bench, session):
    session.arm.connect()
    away = elsewhere(bench, -0.2)
    bench.place(away)
    session.arm.arm()
    follow(session, away, 0.1)
    assert near(bench, bench.truth(), away)


def test_an_arm_outside_its_range_is_not_armed_or_holds_at_its_end(bench, session):
    session.arm.connect()
    bench.place(bench.middle + np.float32(0.55) * bench.span)
    try:
        session.arm.arm()
    except BridgeError:
        assert not any(bench.torque_on())
        return
    assert bool((session.arm.held <= bench.middle + 0.501 * bench.span).all())


@pytest.mark.parametrize("kind", list(StopKind))
def test_a_stop_is_confirmed_and_only_arming_ends_it(bench, armed, kind):
    follow(armed, bench.middle, 0.03)
    assert armed.arm.stop(kind) is True
    assert armed.arm.mode is not Mode.ARMED
    if kind is StopKind.HOLD:
        assert near(bench, bench.truth(), bench.middle)
    armed.arm.arm()
    assert armed.cycle(bench.middle).mode == Mode.ARMED


def test_the_joints_go_where_they_are_told_and_the_state_says_where_they_are(bench, armed):
    goal = elsewhere(bench)
    state = follow(armed, goal, 0.6)
    assert near(bench, bench.truth(), goal, 0.06)
    assert near(bench, state.position, bench.truth())
    assert (state.mode, state.faults) == (Mode.ARMED, 0)


def test_closing_stops_and_a_second_close_is_quiet(bench, armed):
    armed.cycle(bench.middle)
    armed.arm.close()
    armed.arm.close()
    assert armed.arm.mode is Mode.DISARMED
    with pytest.raises(BridgeError):
        armed.cycle(bench.middle)


# --- what must not reach the wire ---


def bad_setpoints(bench):
    n = len(bench.joints)
    top = np.array([joint.maximum for joint in bench.joints], np.float32)
    yield np.full(n, NAN, np.float32)
    for value in (NAN, INF, -INF, 1e30):
        for index in range(n):
            one = bench.middle.copy()
            one[index] = value
            yield one
    for index in range(n):
        one = bench.middle.copy()
        one[index] = np.nextafter(top[index], np.float32(np.inf))
        yield one
    yield bench.middle[:-1]
    yield np.append(bench.middle, np.float32(0))
    yield bench.middle.reshape(1, -1)
    yield bench.middle.astype(np.float64)
    yield bench.middle.tolist()
    yield None


def test_what_is_no_set_point_of_this_arm_is_refused_and_not_a_byte_is_written(bench, armed):
    for setpoint in bad_setpoints(bench):
        armed.cycle(bench.middle)  # a slow machine lets no watchdog run out in between
        before = armed.written()
        with pytest.raises(BadSetpoint):
            armed.cycle(setpoint)
        assert armed.written() == before
    assert armed.cycle(bench.middle).mode == Mode.ARMED


def test_the_ends_of_the_range_are_inside_it(bench, armed):
    for end in ("minimum", "maximum"):
        goal = np.array([getattr(joint, end) for joint in bench.joints], np.float32)
        assert armed.cycle(goal).mode == Mode.ARMED


def test_an_expired_command_is_not_written(bench, armed):
    armed.cycle(bench.middle)
    before, late = armed.written(), armed.arm.counts.late
    with pytest.raises(Expired):
        armed.cycle(elsewhere(bench), -0.001)
    assert armed.arm.send(elsewhere(bench), time.monotonic_ns()) == 0
    assert armed.written() == before
    assert armed.arm.counts.late == late + 2


def test_a_host_that_stalls_past_the_expiry_writes_nothing_afterwards(bench, armed):
    armed.cycle(bench.middle)
    expiry_ns = time.monotonic_ns() + 2 * MS
    before = armed.written()
    time.sleep(0.004)
    assert armed.arm.send(elsewhere(bench), expiry_ns) == 0
    assert armed.written() == before
    assert near(bench, bench.truth(), bench.middle)


def test_the_judge_of_this_contract_sees_what_is_out_of_range(bench, tmp_path):
    """Not of the driver: a driver and a device built for a wider range must be caught, or the judge is blind."""
    loose = Bench(bench.protocol, tmp_path, [wider(joint) for joint in bench.joints], second=True)
    try:
        session = loose.driver().armed()
        for share in (0.3, 0.45, 0.55):
            session.cycle((bench.middle + np.float32(share) * bench.span).astype(np.float32))
        session.arm.close()
        session.line.finish()
    finally:
        loose.close()
    with pytest.raises(AssertionError, match="rad on the wire"):
        judge(bench, session.log())


def test_the_judge_sees_commands_at_all(bench, armed):
    for share in (0.1, -0.1, 0.2):
        armed.cycle(elsewhere(bench, share))
    assert judge(bench, armed.log()) >= 3


# --- the age of a state ---


def test_a_state_is_as_old_as_its_sample_and_never_younger(bench, armed):
    armed.cycle(bench.middle)
    for latency_us in (0, 12_000):
        bench.do("trouble", latency_us=latency_us)
        before_ns = time.monotonic_ns()
        state = armed.cycle(bench.middle, 0.5)
        arrived_ns = time.monotonic_ns()
        assert before_ns - 2_000 <= state.stamp_ns  # a device's clock counts microseconds
        assert state.stamp_ns <= arrived_ns - latency_us * 1_000 + 2_000
        assert state.last_seq == armed.arm.last_asked


def test_an_answer_after_its_deadline_never_looks_younger_than_it_is(bench, armed):
    armed.cycle(bench.middle)
    bench.do("trouble", latency_us=25_000)
    error, took_s = timed(lambda: armed.cycle(bench.middle, 0.010))
    assert isinstance(error, NoAnswer | JointSilent)
    assert took_s <= 0.010 + SLACK_S
    state = armed.cycle(bench.middle, 0.2)  # of the late answer, if the protocol cannot tell: then it is dated so
    assert state.stamp_ns <= time.monotonic_ns() - 25 * MS + 2_000
    bench.do("trouble")
    recovered(armed, bench.middle)


# --- spoiled lines ---


@pytest.mark.parametrize("fate", ["cut", "flip", "twice", "swap", "foreign"])
def test_on_a_bad_line_each_cycle_is_a_true_state_or_a_typed_error_in_time(bench, armed, fate):
    armed.cycle(bench.middle)
    bench.do("trouble", **{fate: 0.3, "seed": 7})
    states, errors, until = 0, 0, time.monotonic() + 0.8
    while states + errors < 25 and (states + errors < 5 or time.monotonic() < until):
        before = time.monotonic()
        try:
            if armed.arm.mode is not Mode.ARMED:
                armed.arm.arm()
            state = armed.cycle(bench.middle, DEADLINE_S)
            states += 1
        except BridgeError:
            errors += 1
        else:
            assert np.isfinite(state.position).all()
            # A CAN controller drops a frame with a flipped bit; here it comes through, and no codec can know.
            if not (bench.can and fate in ("flip", "foreign")):
                assert near(bench, state.position, bench.middle)
        assert time.monotonic() - before <= 0.7 + SLACK_S
    bench.do("trouble")
    assert near(bench, recovered(armed, bench.middle).position, bench.middle)


@pytest.mark.parametrize("kind", ["echo", "wrong_echo"])
def test_an_adapter_that_echoes_is_never_taken_for_an_answer(bench, armed, kind):
    armed.cycle(bench.middle)
    bench.do("trouble", **{kind: True})
    for _ in range(5):
        try:
            state = armed.cycle(elsewhere(bench, 0.3), DEADLINE_S)
        except BridgeError:
            break
        moving = bench.truth()
        assert bool((np.abs(state.position - moving) <= 0.35 * bench.span).all())
    bench.do("trouble")
    recovered(armed, bench.middle)


def test_a_silent_joint_is_named_at_the_deadline_and_the_others_go_on_later(bench, armed):
    if bench.one_device:
        pytest.skip(f"{bench.protocol}: one controller answers for all joints")
    armed.cycle(bench.middle)
    bench.do("trouble", silent=[2])
    error, took_s = timed(lambda: armed.cycle(bench.middle, DEADLINE_S))
    assert isinstance(error, JointSilent)
    assert bench.joints[2].name in str(error)
    assert took_s <= DEADLINE_S + SLACK_S
    bench.do("trouble")
    recovered(armed, bench.middle)


def test_silence_of_all_is_an_error_at_the_deadline(bench, armed):
    armed.cycle(bench.middle)
    bench.do("trouble", silent=[-1, *range(len(bench.joints))])
    error, took_s = timed(lambda: armed.cycle(bench.middle, DEADLINE_S))
    assert isinstance(error, NoAnswer)
    assert DEADLINE_S * 0.9 <= took_s <= DEADLINE_S + SLACK_S
    bench.do("trouble")
    recovered(armed, bench.middle)


def test_connecting_to_a_silent_arm_fails_in_words_and_frees_the_port(bench, session):
    bench.do("trouble", silent=[-1, *range(len(bench.joints))])
    error, took_s = timed(session.arm.connect)
    assert "to do:" in str(error)
    assert took_s <= 4.0 + SLACK_S
    bench.do("trouble")
    assert session.arm.connect().channels == len(bench.joints)


# --- the cable, the bus, the power ---


def test_a_pulled_cable_is_an_error_at_once_and_a_plugged_one_needs_connecting_and_arming(bench, armed):
    armed.cycle(bench.middle)
    bench.do("unplug")
    error, took_s = timed(lambda: armed.cycle(bench.middle, DEADLINE_S))
    assert isinstance(error, PortGone)
    assert took_s <= DEADLINE_S + SLACK_S
    armed.arm.close()
    with pytest.raises(PortError):
        armed.arm.connect()
    bench.do("replug")
    armed.arm.connect()
    assert armed.arm.mode is Mode.DISARMED
    with pytest.raises(NotArmed):
        armed.cycle(bench.middle)
    armed.arm.arm()
    assert armed.cycle(bench.middle).mode == Mode.ARMED


def test_bus_off_is_an_error_of_its_own_and_restart_ends_it_without_a_new_connection(bench, armed):
    if not bench.can:
        pytest.skip(f"{bench.protocol}: a serial line has no bus-off")
    armed.cycle(bench.middle)
    bench.do("bus-off")
    error, took_s = timed(lambda: armed.cycle(bench.middle, DEADLINE_S))
    assert isinstance(error, BusOff)
    assert took_s <= DEADLINE_S + SLACK_S
    error, _ = timed(lambda: armed.cycle(bench.middle, DEADLINE_S))
    bench.do("restart")
    recovered(armed, bench.middle)


def test_power_that_returns_never_arms_whatever_the_host_keeps_sending(bench, armed):
    armed.cycle(bench.middle)
    bench.do("power", on=False)
    error, took_s = timed(lambda: armed.cycle(bench.middle, DEADLINE_S))
    assert isinstance(error, NoAnswer)
    assert took_s <= DEADLINE_S + SLACK_S
    bench.do("power", on=True)
    assert noticed(armed, elsewhere(bench), 1.5)
    for _ in range(20):
        try:
            armed.cycle(elsewhere(bench), DEADLINE_S)
        except BridgeError:
            continue
    assert not any(bench.torque_on())
    assert near(bench, bench.truth(), bench.middle)
    recovered(armed, bench.middle, connect=True)


def test_a_brown_out_is_noticed_and_nothing_moves_until_it_is_armed_again(bench, armed):
    armed.cycle(bench.middle)
    bench.do("brown-out")
    assert noticed(armed, elsewhere(bench), 1.5)
    assert not any(bench.torque_on())
    assert near(bench, bench.truth(), bench.middle)
    recovered(armed, bench.middle, connect=True)


def test_the_watchdog_ends_motion_and_only_arming_ends_that(bench, armed):
    if bench.watchdog_s is None:
        pytest.skip(f"{bench.protocol}: its actuators have no watchdog")
    follow(armed, bench.middle, 0.03)
    time.sleep(bench.watchdog_s * 1.6 + 0.03)
    assert noticed(armed, elsewhere(bench), 0.5)
    for _ in range(10):
        try:
            armed.cycle(elsewhere(bench), DEADLINE_S)
        except BridgeError:
            continue
    assert near(bench, bench.truth(), bench.middle)
    armed.arm.arm()
    assert armed.cycle(bench.middle).mode == Mode.ARMED


def test_a_question_does_not_feed_the_watchdog(bench, armed):
    if bench.watchdog_s is None:
        pytest.skip(f"{bench.protocol}: its actuators have no watchdog")
    if getattr(bench.arms, "QUESTIONS_FEED_WATCHDOG", False):
        pytest.skip(f"{bench.protocol}: its watchdog counts every message, questions too")
    follow(armed, bench.middle, 0.03)
    until = time.monotonic() + bench.watchdog_s * 1.6 + 0.03
    while time.monotonic() < until:
        armed.arm.request_state()
        armed.arm.wait_readable(time.monotonic_ns() + 10 * MS)
        armed.arm.poll()
        time.sleep(0.005)
    assert noticed(armed, bench.middle, 0.5)


@pytest.mark.parametrize("name", ["overload", "overheat", "voltage", "encoder"])
def test_a_fault_of_one_joint_stops_all_and_is_not_cleared_by_itself(bench, armed, name):
    armed.cycle(bench.middle)
    try:
        bench.do("fault", joint=1, name=name)
    except BridgeError:
        pytest.skip(f"{bench.protocol}: its devices do not report {name}")
    assert noticed(armed, bench.middle, 0.5)
    for _ in range(10):
        try:
            state = armed.cycle(elsewhere(bench))
        except BridgeError:
            continue
        assert state.mode != Mode.ARMED
        assert state.faults
    assert near(bench, bench.truth(), bench.middle)


def test_a_stuck_joint_is_where_it_is_and_the_others_move(bench, armed):
    bench.do("stuck", joint=1)
    state = follow(armed, elsewhere(bench), 0.3)
    truth = bench.truth()
    assert abs(float(truth[1] - bench.middle[1])) <= 0.01 * bench.span[1]
    assert abs(float(state.position[1] - truth[1])) <= 0.02 * bench.span[1]
    assert float(truth[0] - bench.middle[0]) >= 0.1 * bench.span[0]


# --- what the command line needs of a codec ---


def test_everything_on_the_line_has_its_sentence_and_no_byte_is_lost_in_splitting(bench, armed):
    for share in (0.1, -0.1):
        armed.cycle(elsewhere(bench, share))
    codec = module(bench.protocol, "codec")
    for direction in (What.WROTE, What.READ):
        passed = units(armed.log().records, direction)
        if not bench.can:
            stream = b"".join(passed)
            passed = codec.split(stream)
            assert b"".join(passed) == stream
        assert passed
        for unit in passed:
            assert isinstance(codec.describe(unit), str)
            assert codec.describe(unit)


def test_cycle_ns_is_the_time_that_the_line_is_busy_for_one_cycle(bench, tmp_path):
    paced = Bench(bench.protocol, tmp_path, paced_baud=bench.baud, data_baud=bench.data_baud, second=True)
    try:
        paced.fresh()
        session = paced.driver().armed()
        session.cycle(bench.middle, 0.5)
        busy = []
        for _ in range(4):
            paced.do("report")
            session.cycle(bench.middle, 0.5)
            busy.append(sum(end - start for start, end, _ in paced.do("report")["busy"]))
        session.end()
    finally:
        paced.close()
    expected_ns = module(bench.protocol, "codec").cycle_ns(bench.joints, bench.baud, bench.data_baud)
    # Never more than it says; a little less where the firmware knows a shorter way (Dynamixel's fast sync read).
    assert 0.8 * expected_ns <= min(busy) <= 1.02 * expected_ns
