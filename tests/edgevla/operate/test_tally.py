"""The sums of a run, folded from rows as they come in."""

import numpy as np
import pytest

from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.operate.tally import Histogram, add
from tests.edgevla.operate.rows import DELAY, NO_INFERENCE, TS_NS, TS_S, fold, inferences_of, ticks_of


def test_a_punctual_run_has_no_miss_and_its_declared_rate():
    tally = fold(ticks_of(400))
    assert (tally.steps, tally.misses, tally.late, tally.release_misses) == (400, 0, 0, 0)
    assert tally.rate_hz == pytest.approx(80.0)
    assert tally.asked == 50


def test_rows_in_pieces_add_up_to_what_they_are_at_once():
    whole, pieces = fold(ticks_of(400)), fold(*(ticks_of(25, first) for first in range(0, 400, 25)))
    assert whole.wake_us == pieces.wake_us
    assert (whole.steps, whole.asked, whole.pending) == (pieces.steps, pieces.asked, pieces.pending)
    assert pieces.rate_hz == pytest.approx(80.0)


def test_a_first_byte_after_half_a_servo_period_is_a_miss_and_one_at_half_is_none():
    rows = ticks_of(10)
    rows["write_ns"][3] = rows["deadline_ns"][3] + TS_NS // 2
    assert fold(rows).misses == 0
    rows["write_ns"][3] += 1
    assert fold(rows).misses == 1


def test_skipped_periods_and_unwritten_commands_are_misses_while_a_command_is_due():
    rows = ticks_of(10)
    rows["skipped"][4], rows["write_ns"][7], rows["late"][7] = 2, 0, 1
    tally = fold(rows)
    assert (tally.misses, tally.skipped, tally.late) == (3, 2, 1)


@pytest.mark.parametrize("phase", [Phase.DISARMED, Phase.LATCHED, Phase.TORQUE])
def test_an_arm_that_is_owed_no_command_misses_none(phase):
    rows = ticks_of(10, phase=phase)
    rows["write_ns"] = 0
    assert fold(rows).misses == 0


def test_a_chunk_absent_at_its_release_is_counted_once_even_across_two_looks():
    rows = ticks_of(32)
    rows["chunk"][10:18] = 0  # the chunk asked for at tick 8 is not there at tick 8 + d = 10
    assert fold(rows).release_misses == 1
    assert fold(rows[:9], rows[9:10], rows[10:]).release_misses == 1


def test_a_chunk_one_tick_after_its_release_was_absent_at_it():
    rows = ticks_of(32)
    rows["chunk"][10] = 0
    assert fold(rows).release_misses == 1


def test_a_release_that_has_not_come_yet_is_pending_and_no_miss():
    tally = fold(ticks_of(10))  # ticks 0 to 9: the chunk of tick 8 is due at 10
    assert (tally.release_misses, tally.pending) == (0, (8,))


def test_after_a_stop_nobody_waits_for_a_chunk_until_somebody_arms():
    rows = ticks_of(32)
    rows["chunk"][10:] = 0
    rows["order"][9] = 2
    tally = fold(rows)
    assert (tally.release_misses, tally.stopping) == (0, True)
    rows["order"][20] = 1
    tally = fold(rows)
    assert (tally.release_misses, tally.stopping) == (1, False)  # that of tick 24, due at 26


def test_a_servo_that_makes_no_step_has_the_rate_zero():
    before = fold(ticks_of(10))
    assert add(before, ticks_of(0), NO_INFERENCE, TS_S, DELAY * TS_S, DELAY).rate_hz == 0.0


def test_only_chunks_count_as_latencies_and_the_release_divides_them():
    tally = add(fold(), ticks_of(0), inferences_of([12.5, 24.9, 25.1]), TS_S, DELAY * TS_S, DELAY)
    tally = add(tally, ticks_of(0), inferences_of([9.0], Status.OLD_FRAME), TS_S, DELAY * TS_S, DELAY)
    in_time = sum(tally.latency.counts[: tally.latency.edges.index(1.0) + 1])
    assert (tally.latency.total, in_time) == (3, 2)
    assert tally.latency.maximum == pytest.approx(25.1 / 25.0)


def test_a_percentile_of_a_histogram_is_an_edge_that_enough_samples_do_not_exceed():
    histogram = Histogram.empty((10.0, 20.0, 50.0)).plus(np.array([*[5.0] * 98, 20.0, 70.0]))
    assert histogram.counts == (98, 1, 0, 1)
    assert [histogram.below(q) for q in (0.5, 0.98, 0.99, 1.0)] == [10.0, 10.0, 20.0, 70.0]
    assert np.isnan(Histogram.empty((1.0,)).below(0.5))


def test_a_disarmed_step_that_woke_late_or_never_counts_as_a_late_wake_and_as_no_miss():
    rows = ticks_of(10, phase=Phase.DISARMED)
    rows["write_ns"] = 0
    rows["wake_ns"][3] = rows["deadline_ns"][3] + TS_NS // 2  # at the edge: in time
    rows["wake_ns"][4] = rows["deadline_ns"][4] + TS_NS // 2 + 1
    kept = np.delete(rows, [6, 7])  # two steps overslept
    whole = fold(kept)
    assert (whole.late_wakes, whole.misses, whole.steps) == (3, 0, 8)
    in_pieces = add(fold(kept[:6]), kept[6:], NO_INFERENCE, TS_S, DELAY * TS_S, DELAY)
    assert in_pieces.late_wakes == 3
