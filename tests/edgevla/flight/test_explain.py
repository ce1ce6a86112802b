"""Every kind of stop is explained in one line, from the record alone."""

import re
from dataclasses import replace

import numpy as np
import pytest

from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.flight.explain import explain_stop
from edgevla.flight.reader import read_record
from firmware_bridge.arm import Fault, Mode
from tests.edgevla.flight.flown import PERIOD_NS, Flight, Happens, write


def explained(tiny, tmp_path, happens=None, change=None, events=()):
    flight = Flight(tiny, 160, happens)
    if change is not None:
        change(flight)
    flight.events += [{"at_ns": 1, **event} for event in events]
    line = explain_stop(read_record(write(flight, tmp_path / "flight.mcap")))
    assert "\n" not in line
    return line


def from_tick(first, status):
    return Happens(status=dict.fromkeys(range(first, 160), status))


def test_a_chunk_that_ran_out_names_chunk_inferences_and_camera(tiny, tmp_path):
    happens = from_tick(40, Status.OLD_FRAME)
    happens.frame_age_ns = dict.fromkeys(range(40, 160), 310_000_000)
    line = explained(tiny, tmp_path, happens)
    assert re.fullmatch(
        r"latched at tick \d+: chunk of tick 32 ran out; inferences 40, 48, 56, 64, 72"
        r" lost \(old_frame: camera `corner` 0\.31 s old\)",
        line,
    ), line
    flight = Flight(tiny, 160, happens)
    latched = int(flight.ticks["tick"][flight.ticks["phase"] >= Phase.LATCHED][0])
    assert line.startswith(f"latched at tick {latched}: ")


def test_a_chunk_of_nan_is_named(tiny, tmp_path):
    line = explained(tiny, tmp_path, from_tick(40, Status.NOT_FINITE))
    assert "chunk of tick 32 ran out; inferences 40, 48" in line
    assert "(not_finite: the policy answered NaN or infinity)" in line


def test_a_policy_that_hung_is_named(tiny, tmp_path):
    line = explained(
        tiny, tmp_path, Happens(silent=range(40, 160)), events=[{"event": "policy-restarted", "why": "hung"}]
    )
    assert "chunk of tick 32 ran out; inference 40 lost (no answer: the policy process hung)" in line


def test_a_policy_that_was_killed_is_named(tiny, tmp_path):
    happens = Happens(silent=range(40, 41), status=dict.fromkeys(range(41, 160), Status.RESTARTED))
    line = explained(tiny, tmp_path, happens, events=[{"event": "policy-restarted", "why": "ended"}])
    assert "inference 40 lost (no answer: the policy process ended)" in line


def test_late_chunks_say_by_how_much(tiny, tmp_path):
    line = explained(tiny, tmp_path, Happens(slow_ns=dict.fromkeys(range(40, 160), 60_000_000)))
    assert "chunk of tick 32 ran out" in line
    assert "(late: 35.3 ms after its release)" in line  # 0.3 + 60 ms against d = 2 ticks of 12.5 ms


def test_a_camera_that_never_delivered_is_named(tiny, tmp_path):
    line = explained(tiny, tmp_path, from_tick(0, Status.NO_FRAME))
    assert "no chunk was released after arming at tick 0; inference 0 lost" in line
    assert "(no_frame: camera `corner` has delivered none)" in line


def test_a_camera_that_stalled_is_named_by_the_supervisor_too(tiny, tmp_path):
    events = [{"event": "camera-stalled", "name": "corner", "age_s": 0.3}]
    line = explained(tiny, tmp_path, from_tick(40, Status.OLD_FRAME), events=events)
    assert line.endswith("; camera `corner` had stalled")


def test_a_state_that_is_too_old_is_named(tiny, tmp_path):
    line = explained(tiny, tmp_path, from_tick(40, Status.OLD_STATE))
    assert "(old_state: joint state 0.00 s old)" in line


def test_an_operator_s_stop_names_who_asked_and_how_long_it_took(tiny, tmp_path):
    line = explained(tiny, tmp_path, Happens(stop=50), events=[{"event": "stop-asked", "by": "the space bar"}])
    assert re.fullmatch(
        r"latched at tick \d+: stop asked for by the space bar at tick 50, at rest and latched \d+ ms later", line
    ), line


def test_the_end_of_the_duration_is_no_operator(tiny, tmp_path):
    line = explained(tiny, tmp_path, Happens(stop=50), events=[{"event": "latched", "reason": "duration"}])
    assert "the duration was over at tick 50, at rest and latched" in line


def test_the_order_to_quit_is_a_stop_too(tiny, tmp_path):
    def quits(flight):
        flight.ticks["order"][flight.ticks["tick"] == 50] = 3

    assert "stop asked for by operator at tick 50" in explained(tiny, tmp_path, Happens(stop=50), change=quits)


def test_an_operator_s_stop_without_an_event_is_still_one(tiny, tmp_path):
    assert "stop asked for by operator at tick 50" in explained(tiny, tmp_path, Happens(stop=50))


def test_a_bus_fault_keeps_its_message_and_the_age_of_the_last_state(tiny, tmp_path):
    def cut(flight):
        flight.ticks = flight.ticks[:100]
        flight.ticks["state_stamp_ns"][55:] = flight.ticks["state_stamp_ns"][54]

    event = {"event": "end", "reason": "fault", "message": "no reply from the arm for 512 ms"}
    line = explained(tiny, tmp_path, change=cut, events=[event])
    assert line.startswith("not latched: bus: no reply from the arm for 512 ms; the last joint state is 564 ms older")
    (tmp_path / "silent").mkdir()
    assert "bus: no reply from the arm; the last joint state" in explained(tiny, tmp_path / "silent", change=cut)


def starve(flight):
    """The servo sleeps for 40 periods before tick 60; the device's watchdog has stopped the arm by then."""
    after = flight.ticks["tick"] >= 100
    flight.ticks["device_mode"][after] = Mode.STOPPED
    flight.ticks["device_faults"][after] = Fault.WATCHDOG
    flight.ticks["phase"][after] = Phase.LATCHED


def test_a_starved_servo_is_told_from_the_watchdog_s_stop(tiny, tmp_path):
    line = explained(tiny, tmp_path, Happens(oversleep={60: 40}), change=starve)
    gap_ms = 41 * PERIOD_NS / 1e6
    assert line == (
        f"latched at tick 100: the arm stopped itself at tick 100 (watchdog): {gap_ms:.0f} ms at most between two"
        " commands, the servo overslept 40 periods"
    )


def test_expired_commands_are_named_as_the_watchdog_s_reason(tiny, tmp_path):
    line = explained(tiny, tmp_path, Happens(unsent=range(80, 100)), change=starve)
    assert "(watchdog): 262 ms at most between two commands, 20 commands had expired and were not written" in line


def test_a_watchdog_without_a_gap_points_at_what_the_arm_refused(tiny, tmp_path):
    event = {"event": "end", "reason": "stop", "link": {"refused": 9}}
    line = explained(tiny, tmp_path, change=starve, events=[event])
    assert line.endswith("12 ms at most between two commands, the arm refused 9 of them as too late or wrong")


def test_the_device_s_answer_to_our_own_stop_is_no_fault(tiny, tmp_path):
    def answer(flight):
        latched = flight.ticks["phase"] >= Phase.LATCHED
        flight.ticks["device_mode"][latched] = Mode.STOPPED
        flight.ticks["device_faults"][latched] = Fault.STOP

    assert "stop asked for by operator" in explained(tiny, tmp_path, Happens(stop=50), change=answer)


def test_a_protective_stop_says_what_the_servo_said(tiny, tmp_path):
    sentence = "effort of elbow beyond 4 for 112 ms, longer than 100 ms: 5.2"
    told = [
        {"event": "latched", "child": "servo", "reason": "protective"},
        {"event": "end", "child": "servo", "reason": "protective", "message": sentence},
    ]
    line = explained(tiny, tmp_path, Happens(stop=50), events=told)
    assert line.endswith(f"protective stop: {sentence}")


def test_a_servo_process_that_died_is_named_with_its_last_tick(tiny, tmp_path):
    event = {"event": "exited", "child": "servo", "code": -9}
    line = explained(tiny, tmp_path, change=lambda f: setattr(f, "ticks", f.ticks[:77]), events=[event])
    assert line == "not latched: the servo process ended at tick 76 in TRACK: exit code -9"


def test_a_servo_that_overslept_its_chunk_is_named(tiny, tmp_path):
    happens = from_tick(40, Status.OLD_FRAME)
    happens.oversleep = {60: 7}
    assert "the servo overslept 7 periods" in explained(tiny, tmp_path, happens)


def test_a_run_that_is_still_moving_is_no_stop(tiny, tmp_path):
    assert explained(tiny, tmp_path) == "no stop: the record ends at tick 159 in TRACK"


def test_an_empty_record_is_said_to_be_empty(tiny, tmp_path):
    record = read_record(write(Flight(tiny, 5), tmp_path / "flight.mcap"))
    assert explain_stop(replace(record, ticks=record.ticks[:0])).startswith("nothing was flown")


@pytest.mark.parametrize("seed", range(5))
def test_no_record_however_odd_breaks_the_explanation(tiny, tmp_path, seed):
    record = read_record(write(Flight(tiny, 100, Happens(stop=50)), tmp_path / "flight.mcap"))
    rng = np.random.default_rng(seed)
    ticks = record.ticks.copy()
    for name in ("phase", "order", "started", "chunk", "write_ns", "device_mode", "device_faults", "skipped"):
        ticks[name] = rng.integers(0, 7 if name == "phase" else 4, len(ticks))
    odd = replace(record, ticks=ticks, inferences=record.inferences[:3], observations=record.observations[:2])
    assert explain_stop(odd)
