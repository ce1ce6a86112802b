"""The host's driver commands a device over a real pty and takes its states."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode
from firmware_bridge.edgelink import driver
from firmware_bridge.edgelink.codec import HelloAck, State, Verdict, command_wire_bytes, encode
from firmware_bridge.errors import BadSetpoint, NotArmed, PortGone

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


def test_a_write_that_ends_at_the_expiry_itself_is_in_time(armed, monkeypatch):
    now_ns = time.monotonic_ns()
    times = iter([now_ns, now_ns + 2_000])
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic_ns=lambda: next(times)))
    assert armed.send(to(0, 0), now_ns + 2_000) == now_ns + 2_000
    assert armed.counts.overtaken == 0
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
    assert (armed.counts.refused, armed.counts.refusals) == (1, {Verdict.EXPIRED: 1})


def test_a_clock_that_drifts_is_followed(served, armed):
    for _ in range(20):
        served.clock_ahead_us += 100_000  # far beyond any crystal, and at the tenth time beyond any expiry
        armed.send(to(0.1, 0), in_s(0.9))
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


def test_the_answer_to_what_was_asked_ends_the_look_and_anything_else_does_not(served, armed, monkeypatch):
    base_us = (time.monotonic_ns() // 1000 + served.clock_ahead_us) % U32
    seq = armed._next_seq()
    earlier, asked = (State((seq + i) % 2**16, base_us + i, 0, 0, 0, 0, (0.0, 0.0), (0.0, 0.0)) for i in (-1, 0))
    pieces = [encode(earlier), encode(asked)[:9], encode(asked)[9:], b"never read"]
    monkeypatch.setattr(armed.transport, "read", lambda: pieces.pop(0))
    armed.last_asked = seq
    assert armed.poll().last_seq == seq
    assert pieces == [b"never read"]
    assert armed.counts.replies >= 2


def test_what_comes_behind_the_answer_is_taken_the_next_time(served, armed):
    armed.send(to(0.1, 0.0), in_s(1))
    assert poll_for(armed).last_seq == armed.last_asked
    before = armed.counts.replies
    base_us = (time.monotonic_ns() // 1000 + served.clock_ahead_us) % U32
    served.speak(encode(State(armed.last_asked, base_us, 0, 0, 0, 0, (0.0, 0.0), (0.0, 0.0))))
    assert poll_for(armed).device_us == base_us
    assert armed.counts.replies == before + 1


def test_a_silent_line_is_looked_at_once(armed, monkeypatch):
    looks = []
    monkeypatch.setattr(armed.transport, "read", lambda: looks.append(1) or b"")
    assert armed.poll() is None
    assert looks == [1]
