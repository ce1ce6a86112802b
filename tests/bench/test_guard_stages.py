"""bench/guard/stages: each latency from rows of a known run, and what was passed over counts from its due time."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench.guard.stages import Rows, rows_of, stage_names, stages_of
from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.control.machine import Order
from edgevla.control.schedule import Schedule
from edgevla.telemetry.rows import GRAPHS, capture_dtype, inference_dtype, tick_dtype

MS, US = 1_000_000, 1000
T_NS, R = 10 * MS, 4  # T = Ts = 10 ms, r = 4
COUNT = 80
EPOCH = 10**12


def plan():
    return SimpleNamespace(
        period_s=0.01,
        schedule=Schedule(horizon=16, delay=2, replan=R, survive=1),
        target=SimpleNamespace(servo_ratio=1),
        cameras=[SimpleNamespace(name="front", rate_hz=50.0)],
    )


def ticks():
    """80 servo steps: wake 0.05 ms, look 0.1, written 0.3, reply 0.2 ms later and seen one step later."""
    rows = np.zeros(COUNT, tick_dtype(4, 4))
    at = np.arange(COUNT)
    rows["step"] = rows["tick"] = at
    rows["phase"] = Phase.TRACK
    rows["deadline_ns"] = EPOCH + at * T_NS
    rows["wake_ns"], rows["look_ns"] = rows["deadline_ns"] + 50 * US, rows["deadline_ns"] + 100 * US
    rows["write_ns"] = rows["deadline_ns"] + 300 * US
    rows["sent_seq"], rows["state_seq"] = at, at - 1
    rows["state_stamp_ns"] = EPOCH + (at - 1) * T_NS + 500 * US
    asked = at // R * R
    rows["answer"] = np.where(at > asked, asked, asked - R)  # answers are there at the next tick
    rows["chunk"] = np.where(at >= asked + 2, asked, asked - R)
    return rows


def inferences():
    """At every fourth tick: frame 20 ms old, 1 ms preprocess, 2 + 3 ms graphs, 1 ms postprocess, begun after 0.4 ms."""
    rows = np.zeros(COUNT // R, inference_dtype())
    rows["tick"] = np.arange(len(rows)) * R
    rows["asked_ns"] = EPOCH + rows["tick"] * T_NS + 350 * US
    rows["done_ns"] = EPOCH + rows["tick"] * T_NS + 400 * US + 7 * MS
    rows["infer_ns"], rows["preprocess_ns"], rows["postprocess_ns"] = 7 * MS, MS, MS
    rows["graph_ns"][:, :2] = [2 * MS, 3 * MS]
    rows["frame_age_ns"] = 20 * MS
    return rows


def captures():
    rows = np.zeros(40, capture_dtype())
    rows["stamp_ns"] = EPOCH + np.arange(40) * 20 * MS
    rows["visible_ns"] = rows["stamp_ns"] + 3 * MS
    return rows


def ms(tick_rows=None, inference_rows=None, capture_rows=None):
    rows = Rows(
        ticks() if tick_rows is None else tick_rows,
        inferences() if inference_rows is None else inference_rows,
        {"front": captures() if capture_rows is None else capture_rows},
        plan(),
        EPOCH,
        EPOCH + COUNT * T_NS,
    )
    return {name: values / MS for name, values in stages_of(rows, ("vision", "head")).items()}


def test_every_stage_of_an_undisturbed_run_is_what_it_was():
    expected = {
        "capture": 3.0, "age": 20.0, "preprocess": 1.0, "graph:vision": 2.0, "graph:head": 3.0, "postprocess": 1.0,
        "policy": 7.4, "reply": 2.7, "release": 12.6, "wake": 0.05, "bus": 0.3, "ack": 0.2,
        "sensor-to-bus": 39.9,
    }  # fmt: skip
    found = ms()
    assert tuple(found) == stage_names(("vision", "head"))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


def test_a_period_overslept_counts_from_its_own_deadline():
    rows = np.delete(ticks(), [10, 11])
    rows["skipped"][10] = 2  # step 12 was served in place of 10 and 11
    found = ms(rows)
    assert len(found["wake"]) == COUNT
    assert found["wake"][9:13] == pytest.approx([0.05, 20.05, 10.05, 0.05])
    assert found["bus"][10:13] == pytest.approx([20.3, 10.3, 0.3])


def test_a_command_that_was_never_written_waits_for_the_next():
    rows = ticks()
    rows["write_ns"][10] = 0
    assert ms(rows)["bus"][9:12] == pytest.approx([0.3, 10.3, 0.3])


def test_a_frame_that_never_came_waits_for_the_next():
    found = ms(capture_rows=np.delete(captures(), [5]))["capture"]
    assert len(found) == 40
    assert found[4:7] == pytest.approx([3.0, 23.0, 3.0])


def test_a_replan_tick_passed_over_waits_for_the_next_chunk():
    rows = np.delete(inferences(), [5])
    rows["done_ns"][4] += 30 * MS  # the inference of tick 16 ran until 53.4 ms, over the one due at 20
    found = ms(inference_rows=rows)["policy"]
    assert len(found) == COUNT // R
    assert found[3:7] == pytest.approx([7.4, 37.4, 47.4, 7.4])


def test_an_inference_without_a_chunk_waits_for_one_too():
    rows = inferences()
    rows["status"][3] = Status.OLD_FRAME
    found = ms(inference_rows=rows)
    assert found["policy"][2:5] == pytest.approx([7.4, 47.4, 7.4])
    assert len(found["preprocess"]) == COUNT // R - 1


def test_a_policy_that_falls_silent_is_late_until_the_end():
    found = ms(inference_rows=inferences()[:15])["policy"]  # the last asked at tick 56, nothing at 60, 64, ... 76
    assert found[:15] == pytest.approx(np.full(15, 7.4))
    assert found[15:] == pytest.approx([200, 160, 120, 80, 40])
    assert ms(inference_rows=inferences()[:0])["policy"].size == 0


def test_an_inference_that_is_on_its_way_at_the_end_says_nothing_yet():
    rows = inferences()
    rows["status"][-1] = Status.FAILED
    found = ms(ticks()[:-1], rows)["policy"]
    assert len(found) == COUNT // R  # due at 76, until the end at 80: exactly one interval
    cut = replace(Rows(ticks(), rows, {"front": captures()}, plan(), EPOCH, EPOCH + (COUNT - 1) * T_NS))
    assert len(stages_of(cut, ("vision", "head"))["policy"]) == COUNT // R - 1


def test_a_chunk_that_never_acted_waits_for_the_next_that_does():
    rows = ticks()
    rows["chunk"][rows["chunk"] == 8] = 4
    assert ms(rows)["sensor-to-bus"][1:4] == pytest.approx([39.9, 79.9, 39.9])


def test_a_reply_that_never_came_waits_for_the_first_later_one():
    rows = ticks()
    rows["state_seq"][11:16], rows["state_stamp_ns"][11:16] = 9, rows["state_stamp_ns"][10]  # silence after 9
    found = ms(rows)["ack"]
    assert found[9] == pytest.approx(0.2)
    assert found[10] == pytest.approx(0.2 + 50)  # the next heard is the reply to 15, written 50 ms later


def test_a_reply_whose_row_shows_the_newer_one_already_is_no_sample():
    rows = ticks()
    rows["state_seq"][20], rows["state_stamp_ns"][20] = rows["sent_seq"][20], rows["write_ns"][20] + MS // 5
    found = ms(rows)["ack"]  # step 20 took the reply to 19 and waited for its own
    assert len(found) == len(ms()["ack"]) - 1
    assert found == pytest.approx(0.2)


def test_graphs_behind_the_last_place_are_named_together():
    names = stage_names([f"g{at}" for at in range(GRAPHS + 1)])
    assert names[3 : 3 + GRAPHS][-1] == f"graph:g{GRAPHS - 1}+g{GRAPHS}"
    assert stage_names(())[3] == "graph:policy"


def test_the_warm_up_and_what_follows_a_stop_are_left_out():
    rows = ticks()
    rows["order"][70] = Order.STOP
    found = rows_of(rows, inferences(), {"front": captures()}, plan(), 0.1)
    assert (found.ticks["tick"][0], found.ticks["tick"][-1]) == (10, 69)
    assert (found.inferences["tick"][0], found.inferences["tick"][-1]) == (12, 68)
    assert found.captures["front"]["stamp_ns"].min() >= EPOCH + 100 * MS
    assert found.deadline_ns(12) == EPOCH + 12 * T_NS


def test_a_run_that_never_moved_or_never_came_to_its_end_of_warm_up_has_no_rows():
    rows = ticks()
    assert rows_of(rows, inferences(), {}, plan(), 5.0) is None
    rows["phase"] = Phase.DISARMED
    assert rows_of(rows, inferences(), {}, plan(), 0.0) is None


def test_nothing_measured_is_no_sample():
    empty = replace(Rows(ticks(), inferences()[:0], {"front": captures()[:0]}, plan(), EPOCH, EPOCH + COUNT * T_NS))
    found = stages_of(empty, ("vision", "head"))
    assert [name for name, values in found.items() if len(values)] == ["wake", "bus", "ack"]
