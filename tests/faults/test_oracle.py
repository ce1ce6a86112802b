"""The oracles can fail: bytes of small histories, right and wrong ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevla.control.ladder import Phase
from edgevla.telemetry.rows import tick_dtype
from firmware_bridge.arm import Mode
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import Command, HelloAck, Ping, State, Verdict
from tests.faults import bounds, oracle
from tests.faults.arms import plan, tight_arm
from tests.faults.faults import FAULTS
from tests.faults.judge import Row, wrong

STEP_S, STEP_NS = 0.0125, 12_500_000
START = (0.0, 0.6, 0.2, -1.0)
LIMITS = codec.Limits(tight_arm().channels)
QUIET = (float("nan"),) * 4  # no effort is measured
CLOCK_NS = 1_000_000_000_000  # host time of the device's zero


def history(xs, late_ns=0, spoil=lambda frame: frame, verdict=Verdict.ACCEPTED):
    """A log of one command a step with these x; the device is greeted, armed, and answers each command."""
    log = [(CLOCK_NS, "r", codec.encode(HelloAck(1, 7, 0, 100, START)))]
    for i, x in enumerate(xs):
        deadline_ns = CLOCK_NS + (i + 1) * STEP_NS
        expiry_us = (deadline_ns + STEP_NS - CLOCK_NS) // 1000
        frame = codec.encode(Command(i + 2, expiry_us, (x, *START[1:])), LIMITS)
        at_ns = deadline_ns + late_ns
        reply = State(i + 2, (at_ns - CLOCK_NS) // 1000 + 50, Mode.ARMED, verdict, 0, 0, START, QUIET)
        log += [(at_ns, "h", frame), (at_ns + 10_000, "d", spoil(frame)), (at_ns + 90_000, "r", codec.encode(reply))]
    return oracle.decode(log)


def rows(count, late_ns=100_000):
    table = np.zeros(count, tick_dtype(4, 4))
    table["tick"] = table["step"] = np.arange(count)
    table["deadline_ns"] = CLOCK_NS + (np.arange(count) + 1) * STEP_NS
    table["write_ns"] = table["deadline_ns"] + late_ns
    table["phase"] = Phase.TRACK
    return table


def late(heard, table):
    return oracle.late_commands(heard, table, STEP_NS, STEP_NS)


def smooth(steps):
    """From rest with 8 m/s^2, jerk within 1280 m/s^3."""
    return [8.0 * STEP_S**2 * i * (i + 1) / 2 for i in range(steps)]


def test_a_smooth_history_in_time_is_without_fault():
    heard = history(smooth(6))
    assert len(heard.sent) == len(heard.delivered) == 6
    assert late(heard, rows(6)) == 0
    assert oracle.beyond_limits(heard, tight_arm(), STEP_S) == 0


def test_the_clock_of_the_device_is_found_in_the_replies():
    assert oracle.clock_ns(history(smooth(6))) == pytest.approx(CLOCK_NS, abs=100_000)


def test_a_command_that_both_witnesses_saw_after_its_expiry_is_late():
    assert _written_late(late_ns=STEP_NS + 1_000_000) == 6


def test_one_witness_in_time_is_enough_for_a_command_that_was_only_read_late():
    heard = history(smooth(6), late_ns=STEP_NS + 1_000_000, verdict=Verdict.EXPIRED)
    assert late(heard, rows(6)) == 0
    assert late(history(smooth(6)), rows(6, late_ns=STEP_NS + 1_000_000)) == 0


def test_a_late_write_that_never_reached_the_recorder_is_late():
    assert late(history([]), rows(3, late_ns=STEP_NS + 1)) == 3


def test_a_late_command_on_the_line_without_a_row_is_late():
    heard = history(smooth(3), late_ns=STEP_NS + 1_000_000, verdict=Verdict.EXPIRED)
    assert late(heard, rows(0)) == 3


def _written_late(late_ns):
    heard = history(smooth(6), late_ns=late_ns, verdict=Verdict.EXPIRED)
    return late(heard, rows(6, late_ns=late_ns))


def test_a_command_obeyed_after_its_expiry_is_late_whatever_the_host_says():
    heard = history(smooth(6), late_ns=STEP_NS + 1_000_000)
    assert oracle.obeyed_late(heard) == 6
    assert late(heard, rows(6)) == 6


@pytest.mark.parametrize(
    ("xs", "what"),
    [
        ([0.0, 0.0, 0.011], "0.88 m/s from rest: velocity, acceleration, jerk"),
        ([0.0, 0.0, 0.0026], "16.6 m/s^2"),
        ([0.0, 8 * STEP_S**2, 24 * STEP_S**2, 24 * STEP_S**2], "from 8 to -16 m/s^2 in one step: jerk"),
        ([0.51], "out of range"),
    ],
)
def test_a_command_beyond_limits_is_counted(xs, what):
    sent = [(i, Command(i + 2, round((i + 2) * STEP_S * 1e6), (x, *START[1:]))) for i, x in enumerate(xs)]
    assert oracle.beyond_limits(replace(oracle.decode([]), sent=sent, held=START), tight_arm(), STEP_S) >= 1, what


def test_a_set_point_that_is_not_finite_is_beyond_limits():
    sent = [(0, Command(2, 25_000, (float("nan"), *START[1:])))]
    assert oracle.beyond_limits(replace(oracle.decode([]), sent=sent, held=START), tight_arm(), STEP_S) == 1


def test_a_skipped_period_has_the_time_of_two():
    xs, v = [0.0], 0.0
    for _ in range(3):
        v += 8.0 * STEP_S
        xs.append(xs[-1] + v * STEP_S)
    xs.append(xs[-1] + v * 2 * STEP_S)
    sent = [(i, Command(i + 2, round((i + 2 + (i > 3)) * STEP_S * 1e6), (x, *START[1:]))) for i, x in enumerate(xs)]
    heard = replace(oracle.decode([]), sent=sent, held=START)
    assert oracle.beyond_limits(heard, tight_arm(), STEP_S) == 0


def test_a_delivered_command_that_nobody_sent_is_counted():
    forged = codec.encode(Command(99, 30_000, START), LIMITS)
    heard = history(smooth(3), spoil=lambda frame: forged)
    assert oracle.beyond_limits(heard, tight_arm(), STEP_S) == 3


def test_rest_counts_only_commands_that_the_device_accepted():
    heard = history(smooth(6), verdict=Verdict.EXPIRED)
    assert oracle.rest_ns(heard, CLOCK_NS) == CLOCK_NS
    moved = history(smooth(6))
    assert oracle.rest_ns(moved, CLOCK_NS) == moved.delivered[-1][0]


def test_the_latch_is_the_first_word_of_the_device_that_it_is_not_armed():
    stopped = codec.encode(State(50, 500_000, Mode.STOPPED, 0, 1, 0, START, QUIET))
    armed = codec.encode(State(49, 400_000, Mode.ARMED, 0, 0, 0, START, QUIET))
    log = [(CLOCK_NS, "r", armed), (CLOCK_NS + 5, "h", codec.encode(Ping(50))), (CLOCK_NS + 9, "p", stopped)]
    heard = oracle.decode(log)
    assert oracle.latched_ns(heard, CLOCK_NS) == CLOCK_NS + 9
    assert oracle.latched_ns(oracle.decode(log[:2]), CLOCK_NS) is None


def test_a_pause_is_where_nothing_moves_for_long_enough():
    heard = history([*smooth(4), *([smooth(4)[-1]] * 20)])
    until = CLOCK_NS + 30 * STEP_NS
    assert oracle.pause_ns(heard, CLOCK_NS, until, 150_000_000) == heard.delivered[3][0]
    assert oracle.pause_ns(heard, CLOCK_NS, until, 500_000_000) is None


def test_a_stop_after_its_bound_and_an_outcome_that_was_not_declared_are_wrong():
    fault = next(fault for fault in FAULTS if fault.name == "serial cut")
    good = Row("serial cut", 0, 0, 3.0, 25.0, 95.0, 137.5, "2 Ts", "stopped", "the port died", "bus", 100, 3.0)
    assert wrong(fault, good) == []
    for change in (
        {"stop_ms": 26.0},
        {"latched_ms": 140.0},
        {"outcome": "survived"},
        {"late_commands": 1},
        {"out_of_limit_commands": 1},
        {"explained_by": ""},
        {"explained_by": "no stop"},
        {"samples": 0},
    ):
        assert len(wrong(fault, replace(good, **change))) == 1, change


def test_the_bounds_are_these_numbers():
    found = plan(tight_arm())
    brake_s = 0.8 / 8.0 + 24.0 / 1280.0 + 0.0125  # v / a, deceleration up and down, one tick
    assert bounds.brake_s(found) == pytest.approx(brake_s)
    assert bounds.chunk_runs_out(found).rest_s == pytest.approx(0.4 + brake_s + 0.025)
    assert bounds.chunk_runs_out(found).latched_s == pytest.approx(0.4 + brake_s + 0.025 + 0.5 + 0.025 + 0.1)
    assert bounds.watchdog(found).latched_s == pytest.approx(0.1 + 0.0125 + 0.025)
