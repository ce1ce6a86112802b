"""The figures of docs/seams.md are those of the results; what was not played is said as such."""

from bench.seams.block import NOT_MEASURED, delay_block, seams_block

ZERO = {"way": "zero", "delay": 0, "episodes": 120, "successes": 117, "slower_than_zero": 1.0}
PAIRS = {"loss": 0.0583, "loss_low95": 0.0255, "loss_high95": 0.1155, "only_reference": 7, "only_candidate": 0}
OURS = ZERO | {"way": "ours", "delay": 4, "successes": 110, "slower_than_zero": 1.06}
OURS |= {"against_zero": PAIRS | {"mcnemar_p": 0.0156}}
GOAL = {"margin": 0.03, "loss": 0.0583, "loss_upper95": 0.104, "kept": False, "shown_with_95_percent": False}


def test_success_goal_and_pairs_are_printed_from_the_cells():
    told = delay_block({"cells": [ZERO, OURS], "goal": GOAL}, "this host")
    assert "120 episodes a cell, successes; at zero delay **117**" in told
    assert "| ours: prefix | not measured | not measured | not measured | 110 |" in told
    assert "| ours: prefix | +5.8 | +2.5 to +11.6 | 7 | 0 | 0.0156 |" in told
    assert "Counted: +5.8, **missed**; and not shown with 95 % confidence (at most 10.4)" in told
    assert "1.06x" in told


def test_nothing_measured_is_said_so():
    assert delay_block({}, "this host") == NOT_MEASURED
    assert seams_block({}, "this host") == NOT_MEASURED


def spread(value):
    return {"p50": value, "p95": 2 * value, "max": 3 * value, "episodes_q25": value / 2, "episodes_q75": value}


def line(way, delay):
    jumps = {"velocity_m_s": spread(0.1), "acceleration_m_s2": spread(8.0)}
    return {
        "way": way, "delay": delay, "asked_per_s": 10.0, "seams": 5, "wanted": jumps, "limited": jumps,
        "distance": spread(0.002), "between_seams": {"velocity_m_s": None},
    }  # fmt: skip


def test_jumps_carry_their_unit_and_a_blend_outside_its_contract_is_marked():
    seams = {
        "scenes": {"episodes": 18},
        "limited_to_m_s2": 8.0,
        "blend_ticks": 4,
        "schedule": {"replan": 8},
        "inside": {"velocity_m_s": spread(0.03)},
        "closed_loop": [line("blend", 4), line("plain", 4)],
        "readings": {"displacements": [line("blend", 4), line("blend", 6), line("plain", 3)]},
    }
    told = seams_block(seams, "this host")
    assert "| naive: newest chunk | 100 / 200 |" in told
    assert "| 4 | ours without a prefix: blend | 10.0 | 100 / 200 | 8 / 16 | 100 / 200 | 2 (1 to 2) |" in told
    assert "| 6 | ours without a prefix: blend † |" in told
    assert "| 3 |" not in told
    assert "Where no chunk begins: 30 / 60" in told
